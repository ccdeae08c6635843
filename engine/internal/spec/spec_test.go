package spec_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"sampan.dev/sampan/engine/internal/spec"
	"sampan.dev/sampan/internal/fault"
)

// rootfs has users as an image has.
func rootfs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1001::/home/ann:/bin/sh\n",
		"etc/group":  "root:x:0:\nstaff:x:1001:\nwheel:x:10:root,ann\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestLookupUser(t *testing.T) {
	dir := rootfs(t)
	for _, c := range []struct {
		who      string
		uid, gid uint32
		more     []uint32
		ok       bool
	}{
		{"", 0, 0, []uint32{0, 10}, true},
		{"ann", 1000, 1001, []uint32{1001, 10}, true},
		{"ann:staff", 1000, 1001, []uint32{1001}, true},
		{"1000", 1000, 1001, []uint32{1001, 10}, true},
		{"4321", 4321, 0, []uint32{0}, true},
		{"4321:77", 4321, 77, []uint32{77}, true},
		{"bob", 0, 0, nil, false},
		{"ann:nobody", 0, 0, nil, false},
		{"-5", 0, 0, nil, false},
	} {
		u, err := spec.LookupUser(dir, c.who)
		if c.ok != (err == nil) || err != nil && !fault.Is(err, fault.KindInvalid) {
			t.Errorf("%q: %v", c.who, err)
		} else if c.ok && (u.UID != c.uid || u.GID != c.gid || !slices.Equal(u.AdditionalGids, c.more)) {
			t.Errorf("%q is %+v", c.who, u)
		}
	}
}

func TestAnImageCannotMakeUsReadTheHostsUsers(t *testing.T) {
	dir := t.TempDir()
	outside := rootfs(t)
	if err := os.Symlink(filepath.Join(outside, "etc"), filepath.Join(dir, "etc")); err != nil {
		t.Fatal(err)
	}
	if u, err := spec.LookupUser(dir, "ann"); err == nil {
		t.Errorf("found %+v outside", u)
	}
}

func TestCapabilities(t *testing.T) {
	for _, c := range []struct {
		does      string
		add, drop []string
		want      int
		has       string
		hasNot    string
		ok        bool
	}{
		{"Docker's defaults", nil, nil, 14, "CAP_CHOWN", "CAP_SYS_ADMIN", true},
		{"one more, in any spelling", []string{"cap_net_admin"}, nil, 15, "CAP_NET_ADMIN", "", true},
		{"one less", nil, []string{"NET_RAW"}, 13, "", "CAP_NET_RAW", true},
		{"none but one", []string{"KILL"}, []string{"ALL"}, 1, "CAP_KILL", "", true},
		{"one that is not", []string{"FLY"}, nil, 0, "", "", false},
	} {
		caps, err := spec.Capabilities(false, c.add, c.drop)
		if c.ok != (err == nil) {
			t.Errorf("%s: %v", c.does, err)
			continue
		}
		if !c.ok {
			continue
		}
		b := caps.Bounding
		if len(b) != c.want || c.has != "" && !slices.Contains(b, c.has) || slices.Contains(b, c.hasNot) {
			t.Errorf("%s: %v", c.does, b)
		}
	}
}

func TestMergeEnv(t *testing.T) {
	got := spec.MergeEnv([]string{"A=1", "B=2", "C=3"}, []string{"B=two", "C", "D=4", "E", "D=four"})
	if want := []string{"A=1", "B=two", "D=four"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestBuild(t *testing.T) {
	dir := rootfs(t)
	s, err := spec.Build(spec.Options{
		Rootfs: dir, Args: []string{"x"}, Env: []string{"A=b"}, User: "ann",
		Mounts: []specs.Mount{
			{Destination: "/data/inner", Source: "/tmp", Type: "bind"},
			{Destination: "/data", Source: "/tmp", Type: "bind"},
			{Destination: "/dev/shm", Source: "/tmp", Type: "bind"},
		},
		Limits: spec.Limits{Memory: 64 << 20, CPUs: 1.5, Pids: 10},
	})
	if err != nil {
		t.Fatal(err)
	}
	at := func(dest string) int {
		return slices.IndexFunc(s.Mounts, func(m specs.Mount) bool { return m.Destination == dest })
	}
	if at("/data") > at("/data/inner") || at("/dev") > at("/dev/shm") || at("/proc") < 0 {
		t.Errorf("mounts are out of order: %v", s.Mounts)
	}
	if m := s.Mounts[at("/dev/shm")]; m.Source != "/tmp" {
		t.Errorf("the user's mount did not take the default's place: %+v", m)
	}
	p := s.Process
	if !p.NoNewPrivileges || p.User.UID != 1000 || p.Cwd != "/" || !slices.Contains(p.Env, "PATH="+spec.DefaultPath) {
		t.Errorf("the process is %+v", p)
	}
	r := s.Linux.Resources
	if *r.Memory.Limit != 64<<20 || *r.CPU.Quota != 150_000 || *r.Pids.Limit != 10 {
		t.Errorf("the limits are %+v", r)
	}
	for _, path := range []string{"/proc/kcore", "/sys/firmware", "/sys/devices/virtual/powercap", "/proc/interrupts"} {
		if !slices.Contains(s.Linux.MaskedPaths, path) {
			t.Errorf("%s is not masked", path)
		}
	}
}

func TestBuildRefuses(t *testing.T) {
	dir := rootfs(t)
	for _, c := range []struct {
		what string
		o    spec.Options
	}{
		{"no command", spec.Options{Rootfs: dir}},
		{"a user who is not in the image", spec.Options{Rootfs: dir, Args: []string{"x"}, User: "bob"}},
		{"a mount over everything", spec.Options{Rootfs: dir, Args: []string{"x"}, Mounts: []specs.Mount{{Destination: "/"}}}},
		{"a mount nowhere", spec.Options{Rootfs: dir, Args: []string{"x"}, Mounts: []specs.Mount{{Destination: "data"}}}},
		{"a negative limit", spec.Options{Rootfs: dir, Args: []string{"x"}, Limits: spec.Limits{Memory: -1}}},
		{"a memory limit that nothing fits in", spec.Options{Rootfs: dir, Args: []string{"x"}, Limits: spec.Limits{Memory: 1000}}},
		{"a device that is a file", spec.Options{Rootfs: dir, Args: []string{"x"}, Devices: []spec.Device{{Host: "/etc/passwd"}}}},
		{"a rule about no device", spec.Options{Rootfs: dir, Args: []string{"x"}, DeviceRules: []string{"c 1"}}},
		{"a limit that there is not", spec.Options{Rootfs: dir, Args: []string{"x"}, Limits: spec.Limits{Ulimits: []spec.Ulimit{{Name: "nofiles"}}}}},
		{"a soft limit above the hard one", spec.Options{Rootfs: dir, Args: []string{"x"}, Limits: spec.Limits{Ulimits: []spec.Ulimit{{Name: "nofile", Soft: 2, Hard: 1}}}}},
		{"a group that is not in the image", spec.Options{Rootfs: dir, Args: []string{"x"}, Groups: []string{"nogroup"}}},
	} {
		if _, err := spec.Build(c.o); !fault.Is(err, fault.KindInvalid) {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}

func FuzzMergeEnv(f *testing.F) {
	f.Add("A=1", "A", "=x")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		for _, e := range spec.MergeEnv([]string{a}, []string{b, c}) {
			if e != a && e != b && e != c {
				t.Errorf("%q came from nowhere", e)
			}
		}
	})
}
