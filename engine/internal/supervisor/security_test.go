package supervisor_test

import (
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"sampan.dev/sampan/engine/internal/spec"
	"sampan.dev/sampan/engine/internal/supervisor"
)

const status = "grep -E '^(Seccomp|NoNewPrivs|CapInh|CapPrm|CapEff|CapBnd|CapAmb|Uid|Gid|Groups):' /proc/self/status"

// fields reads lines like "Seccomp:	2".
func fields(out string) map[string]string {
	f := map[string]string{}
	for line := range strings.Lines(out) {
		name, value, _ := strings.Cut(line, ":")
		f[name] = strings.Join(strings.Fields(value), " ")
	}
	return f
}

// What a container may do is what Docker lets it do.
func TestRights(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const fourteen, none, all = "00000000a80425fb", "0000000000000000", "ALL"
	type change = func(*spec.Options, *supervisor.Request)
	for _, c := range []struct {
		who    string
		change change
		want   map[string]string
	}{
		{"root", func(o *spec.Options, _ *supervisor.Request) {}, map[string]string{
			"Seccomp": "2", "NoNewPrivs": "1", "CapBnd": fourteen, "CapEff": fourteen, "CapPrm": fourteen,
			"CapInh": none, "CapAmb": none, "Uid": "0 0 0 0", "Groups": "0"}},
		{"a user by name, with the user's groups", func(o *spec.Options, _ *supervisor.Request) { o.User = "ann" }, map[string]string{
			"Seccomp": "2", "NoNewPrivs": "1", "CapBnd": fourteen, "CapEff": none, "CapPrm": none,
			"Uid": "1000 1000 1000 1000", "Gid": "1001 1001 1001 1001", "Groups": "10 1001"}},
		{"root that may gain privileges", func(o *spec.Options, _ *supervisor.Request) { o.NewPrivileges = true }, map[string]string{
			"Seccomp": "2", "NoNewPrivs": "0", "CapBnd": fourteen, "CapEff": fourteen, "CapPrm": fourteen,
			"CapInh": none, "CapAmb": none}},
		{"a number that may gain privileges", func(o *spec.Options, _ *supervisor.Request) { o.NewPrivileges, o.User = true, "42:43" }, map[string]string{
			"Seccomp": "2", "NoNewPrivs": "0", "CapBnd": fourteen, "CapEff": none, "CapPrm": none,
			"CapInh": none, "CapAmb": none, "Uid": "42 42 42 42", "Gid": "43 43 43 43"}},
		{"root without any capability", func(o *spec.Options, _ *supervisor.Request) { o.CapDrop = []string{"all"} }, map[string]string{
			"Seccomp": "2", "CapBnd": none, "CapEff": none}},
		{"root with one more", func(o *spec.Options, _ *supervisor.Request) { o.CapAdd = []string{"net_admin"} }, map[string]string{
			"Seccomp": "2", "CapBnd": "00000000a80435fb"}},
		{"a privileged container", func(o *spec.Options, _ *supervisor.Request) { o.Privileged = true }, map[string]string{
			"Seccomp": "0", "NoNewPrivs": "0"}},
	} {
		t.Run(c.who, func(t *testing.T) {
			out, exit := w.run(status+"; sleep 0", c.change)
			got := fields(out)
			for name, want := range c.want {
				if got[name] != want {
					t.Errorf("%s is %q, want %q (exit %d)", name, got[name], want, exit.Code)
				}
			}
		})
	}
}

func TestExecHasTheRightsOfTheContainer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, change := range []func(*spec.Options, *supervisor.Request){
		func(o *spec.Options, _ *supervisor.Request) {},
		func(o *spec.Options, _ *supervisor.Request) { o.NewPrivileges = true },
	} {
		r := w.request(status+"; sleep 1000", change)
		id := w.start(r)
		out, _ := w.exec(id, status)
		got := fields(out)
		if got["Seccomp"] != "2" || got["CapBnd"] != "00000000a80425fb" || got["CapEff"] != got["CapBnd"] || got["CapAmb"] != "0000000000000000" {
			t.Errorf("exec got %v", got)
		}
		var s strings.Builder
		_, err := w.Exec(t.Context(), id, supervisor.Process{
			Args: []string{"sh", "-c", status}, Env: []string{"PATH=/bin"}, User: &specs.User{UID: 1000, GID: 1000},
		}, supervisor.Streams{Stdout: &s})
		w.must(err)
		if got := fields(s.String()); got["Seccomp"] != "2" || got["CapEff"] != "0000000000000000" || got["CapAmb"] != "0000000000000000" {
			t.Errorf("exec as a user got %v", got)
		}
	}
}

func TestForbidden(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.start(w.request("sleep 1000"))
	for _, c := range []struct{ does, script, says string }{
		{"no new user namespace", "unshare -U true", "Operation not permitted"},
		{"no new mount namespace", "unshare -m true", "Operation not permitted"},
		{"no mount", "mount -t tmpfs none /tmp", "ermission denied|Operation not permitted"},
		{"no change of the kernel's settings", "echo 1 > /proc/sys/kernel/panic", "Read-only file system"},
		{"no look at the firmware", "ls /sys/firmware | grep -c .", ""},
		{"no change of control groups", "touch /sys/fs/cgroup/memory/x || touch /sys/fs/cgroup/x", "Read-only file system"},
	} {
		out, _ := w.exec(id, "( "+c.script+" ) 2>&1")
		ok := c.says == "" && strings.TrimSpace(out) == "0"
		for _, says := range strings.Split(c.says, "|") {
			ok = ok || says != "" && strings.Contains(out, says)
		}
		if !ok {
			t.Errorf("%s: %q said %q, want %q", c.does, c.script, out, c.says)
		}
	}
}

// Nothing of sampan-init is to be seen from inside.
func TestTheStubIsGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.start(w.request("exec sleep 1000"))
	for _, c := range []struct{ does, script, want string }{
		{"the program is the program", "ls -l /proc/1/exe | grep -o '[^ ]*$'", "/bin/busybox"},
		{"only the standard streams are open", "echo $(ls /proc/1/fd)", "0 1 2"},
		{"and in an exec too", "exec ls /proc/self/fd | grep -c .", "4"}, // the directory itself is the fourth
		{"the command line is the user's", "cat /proc/1/cmdline | head -c 5", "sleep"},
		{"no mount tells of it", "grep -c sampan-init /proc/1/mountinfo", "0"},
		{"nor do the maps", "grep -c memfd /proc/1/maps", "0"},
		{"the kernel may end it like any other", "cat /proc/1/oom_score_adj", "0"},
		{"an exec has the usual mask", "umask", "0022"},
		{"no signal is ignored or blocked", "grep -cE '^Sig(Ign|Blk):.0000000000000000' /proc/1/status", "2"},
		{"the environment is the user's", "grep -c LIBCONTAINER /proc/1/environ", "0"},
	} {
		if out, _ := w.exec(id, c.script); strings.TrimSpace(out) != c.want {
			t.Errorf("%s: %q said %q, want %q", c.does, c.script, out, c.want)
		}
	}
}
