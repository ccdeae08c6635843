package container_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	types "github.com/moby/moby/api/types/container"

	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/engine/docker/internal/api"
	"sampan.dev/sampan/engine/docker/internal/container"
)

// inNoNetwork is the form of requests that no engine is asked about.
const inNoNetwork = `{"Image":"i","Cmd":["c"],%s"HostConfig":{"NetworkMode":"none"%s}}`

func specOf(t *testing.T, config, host string) (engine.Spec, error) {
	t.Helper()
	if config != "" {
		config += ","
	}
	if host != "" {
		host = "," + host
	}
	return specOfBody(fmt.Sprintf(inNoNetwork, config, host), engine.ImageConfig{})
}

func specOfBody(body string, image engine.ImageConfig) (engine.Spec, error) {
	r := httptest.NewRequest("POST", "/containers/create", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	return container.SpecOf(r, image)
}

func TestWhatIsAskedForReachesTheEngine(t *testing.T) {
	for _, c := range []struct {
		config, host string
		got          func(engine.Spec) any
		want         any
	}{
		{"", ``, func(s engine.Spec) any { return s.NewPrivileges }, true},
		{"", `"SecurityOpt":["no-new-privileges"]`, func(s engine.Spec) any { return s.NewPrivileges }, false},
		{"", `"SecurityOpt":["no-new-privileges:false"]`, func(s engine.Spec) any { return s.NewPrivileges }, true},
		{"", `"SecurityOpt":["no-new-privileges=true"]`, func(s engine.Spec) any { return s.NewPrivileges }, false},
		{"", `"SecurityOpt":["seccomp=unconfined","apparmor=mine","label=disable"]`, func(s engine.Spec) any { return s.Seccomp + s.AppArmor }, "unconfinedmine"},
		{"", `"SecurityOpt":["seccomp={\"a\":1}"]`, func(s engine.Spec) any { return s.Seccomp }, `{"a":1}`},
		{"", `"MaskedPaths":[],"ReadonlyPaths":[]`, func(s engine.Spec) any { return s.Unmasked }, true},
		{"", `"MaskedPaths":["/proc/kcore"]`, func(s engine.Spec) any { return s.Unmasked }, false},
		{`"StopTimeout":0`, ``, func(s engine.Spec) any { return s.StopTimeout }, time.Nanosecond},
		{`"StopTimeout":-1`, ``, func(s engine.Spec) any { return s.StopTimeout < 0 }, true},
		{`"StopTimeout":3`, ``, func(s engine.Spec) any { return s.StopTimeout }, 3 * time.Second},
		{"", ``, func(s engine.Spec) any { return s.StopTimeout }, time.Duration(0)},
		{"", `"Memory":67108864`, func(s engine.Spec) any { return s.Limits.Swap }, int64(67108864)},
		{"", `"Memory":67108864,"MemorySwap":67108864`, func(s engine.Spec) any { return s.Limits.Swap }, int64(0)},
		{"", `"Memory":67108864,"MemorySwap":-1`, func(s engine.Spec) any { return s.Limits.Swap }, int64(-1)},
		{"", `"NanoCpus":500000000`, func(s engine.Spec) any { return s.Limits.CPUs }, 0.5},
		{"", `"PidsLimit":-1`, func(s engine.Spec) any { return s.Limits.Pids }, int64(0)},
		{"", `"Ulimits":[{"Name":"nofile","Soft":1,"Hard":-1}]`, func(s engine.Spec) any { return s.Limits.Ulimits }, []engine.Ulimit{{Name: "nofile", Soft: 1, Hard: -1}}},
		{"", `"Dns":["1.1.1.1"],"ExtraHosts":["a:1.2.3.4"]`, func(s engine.Spec) any { return append(s.DNS, s.Hosts...) }, []string{"1.1.1.1", "a:1.2.3.4"}},
		{"", `"LogConfig":{"Type":"none"}`, func(s engine.Spec) any { return s.Logs.None }, true},
		{"", `"LogConfig":{"Type":"local","Config":{"max-size":"2m","max-file":"4"}}`, func(s engine.Spec) any { return s.Logs }, engine.LogLimits{Size: 2 << 20, Files: 4}},
		{"", `"RestartPolicy":{"Name":"on-failure","MaximumRetryCount":2}`, func(s engine.Spec) any { return s.Restart }, engine.Restart{Policy: "on-failure", Max: 2}},
		{"", `"Binds":["/a/:/b/:ro,z,rslave"]`, func(s engine.Spec) any { return s.Mounts }, []engine.Mount{{Type: "bind", Source: "/a", Target: "/b", ReadOnly: true, Propagation: "rslave", Create: true}}},
		{"", `"Binds":["name:/b:nocopy"],"VolumeDriver":"local"`, func(s engine.Spec) any { return s.Mounts }, []engine.Mount{{Type: "volume", Source: "name", Target: "/b", NoCopy: true, Driver: "local"}}},
		{"", `"Binds":["/b"]`, func(s engine.Spec) any { return s.Mounts }, []engine.Mount{{Type: "volume", Target: "/b"}}},
		{`"Volumes":{"/v":{},"/b":{}}`, `"Binds":["n:/b"]`, func(s engine.Spec) any { return s.Mounts }, []engine.Mount{{Type: "volume", Source: "n", Target: "/b"}, {Type: "volume", Target: "/v"}}},
		{"", `"Mounts":[{"Type":"bind","Source":"/tmp","Target":"/t","ReadOnly":true,"BindOptions":{"NonRecursive":true}}]`, func(s engine.Spec) any { return s.Mounts }, []engine.Mount{{Type: "bind", Source: "/tmp", Target: "/t", ReadOnly: true, Flat: true}}},
		{"", `"Mounts":[{"Type":"volume","Source":"v","Target":"/t","VolumeOptions":{"Subpath":"a/b","Labels":{"x":"y"},"DriverConfig":{"Name":"local","Options":{"type":"nfs"}}}}]`, func(s engine.Spec) any { return s.Mounts }, []engine.Mount{{Type: "volume", Source: "v", Target: "/t", Subpath: "a/b", Labels: map[string]string{"x": "y"}, Driver: "local", DriverOpts: map[string]string{"type": "nfs"}}}},
		{"", `"Mounts":[{"Type":"tmpfs","Target":"/t","TmpfsOptions":{"SizeBytes":5,"Mode":448,"Options":[["exec"]]}}]`, func(s engine.Spec) any { return s.Mounts }, []engine.Mount{{Type: "tmpfs", Target: "/t", Size: 5, Mode: 0o700, Options: []string{"exec"}}}},
		{`"Healthcheck":{"Test":["CMD","x"],"Interval":2000000000}`, ``, func(s engine.Spec) any { return *s.Health }, engine.Health{Command: []string{"CMD", "x"}, Interval: 2 * time.Second}},
		{"", `"Devices":[{"PathOnHost":"/dev/null","PathInContainer":"/dev/x","CgroupPermissions":"r"}]`, func(s engine.Spec) any { return s.Devices }, []engine.Device{{Host: "/dev/null", Container: "/dev/x", Access: "r"}}},
		{`"NetworkDisabled":true`, ``, func(s engine.Spec) any { return s.Network }, "none"},
		{"", `"PortBindings":{"80/tcp":[{"HostPort":"8080"}]}`, func(s engine.Spec) any { return len(s.Ports) }, 0},
	} {
		s, err := specOf(t, c.config, c.host)
		if err != nil {
			t.Errorf("%s %s: %v", c.config, c.host, err)
			continue
		}
		if got := c.got(s); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s %s: %+v, want %+v", c.config, c.host, got, c.want)
		}
	}
}

func TestWhatCannotBeIsRefusedInDockersWords(t *testing.T) {
	for _, c := range []struct{ config, host, want string }{
		{"", `"Memory":1048576`, "Minimum memory limit allowed is 6MB"},
		{"", `"MemorySwap":67108864`, "You should always set the Memory limit when using Memoryswap limit"},
		{"", `"Memory":67108864,"MemorySwap":7340032`, "Minimum memoryswap limit should be larger than memory limit"},
		{"", `"NanoCpus":900000000000`, "range of CPUs is from 0.01 to"},
		{"", `"NanoCpus":500000000,"CpuQuota":5000`, "Nano CPUs and CPU Quota cannot both be set"},
		{"", `"AutoRemove":true,"RestartPolicy":{"Name":"always"}`, "can't create 'AutoRemove' container with restart policy"},
		{"", `"RestartPolicy":{"Name":"never"}`, "unknown policy 'never'"},
		{"", `"RestartPolicy":{"Name":"always","MaximumRetryCount":2}`, "maximum retry count can only be used with 'on-failure'"},
		{"", `"Binds":["/a:/"]`, "destination can't be '/'"},
		{"", `"Binds":["/a:b"]`, "invalid volume specification: '/a:b'"},
		{"", `"Binds":["/a:/b:what"]`, "invalid mode: what"},
		{"", `"Binds":["/a:/b:ro,rw"]`, "invalid mode: ro,rw"},
		{"", `"Binds":["/a:ro"]`, "invalid volume specification: '/a:ro'"},
		{"", `"Binds":["a/b:/c"]`, "includes invalid characters for a local volume name"},
		{"", `"Binds":["/a:/c","/b:/c"]`, "Duplicate mount point: /c"},
		{"", `"Mounts":[{"Type":"bind","Source":"/no/such/place","Target":"/t"}]`, `invalid mount config for type "bind": bind source path does not exist: /no/such/place`},
		{"", `"Mounts":[{"Type":"bind","Target":"/t"}]`, "field Source must not be empty"},
		{"", `"Mounts":[{"Type":"tmpfs","Source":"x","Target":"/t"}]`, "field Source must not be specified"},
		{"", `"Mounts":[{"Type":"volume","Target":"/t","BindOptions":{}}]`, "field BindOptions must not be specified"},
		{"", `"Mounts":[{"Type":"what","Target":"/t"}]`, "mount type unknown"},
		{"", `"SecurityOpt":["what"]`, `invalid --security-opt 1: "what"`},
		{"", `"SecurityOpt":["seccomp={"]`, "Decoding seccomp profile failed"},
		{"", `"MaskedPaths":["/etc"]`, "cannot hide the path /etc"},
		{"", `"LogConfig":{"Type":"syslog"}`, "no log driver named 'syslog' is registered"},
		{"", `"LogConfig":{"Type":"json-file","Config":{"what":"1"}}`, "unknown log opt 'what' for json-file log driver"},
		{"", `"Runtime":"kata"`, "unknown or invalid runtime name: kata"},
		{"", `"PidMode":"what"`, "invalid PID mode: what"},
		{"", `"OomScoreAdj":2000`, "range for oom score adj is [-1000, 1000]"},
		{"", `"PortBindings":{"80/what":[{}]}`, `invalid protocol "what"`},
		{"", `"PortBindings":{"80/tcp":[{"HostPort":"x"}]}`, `invalid port specification: "x"`},
		{`"Healthcheck":{"Interval":5}`, ``, "Interval in Healthcheck cannot be less than 1ms"},
		{`"Env":["=x"]`, ``, "invalid environment variable: =x"},
		{`"Hostname":"h"`, `"UTSMode":"host"`, "conflicting options: hostname and the UTS mode"},
	} {
		if _, err := specOf(t, c.config, c.host); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s: %v, want %q", c.config, c.host, err, c.want)
		}
	}
	for body, want := range map[string]string{
		"":                  "got EOF",
		"{":                 "invalid JSON",
		`{"HostConfig":{}}`: "config cannot be empty",
		`{"Image":"i","HostConfig":{"NetworkMode":"none"}}`:                                   "no command specified",
		`{"Image":"i","Cmd":["c"],"Hostname":"h","HostConfig":{"NetworkMode":"container:x"}}`: "conflicting options: hostname and the network mode",
		`{"Image":"i","Cmd":["c"],"MacAddress":"02:00:00:00:00:01","HostConfig":{}}`:          "container-wide MAC address no longer supported",
		`{"Image":"i","Cmd":["c"],"HostConfig":{"NetworkMode":"container:"}}`:                 "invalid container format container:<name|id>",
	} {
		if _, err := specOfBody(body, engine.ImageConfig{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", body, err, want)
		}
	}
}

func TestImageAndRequestAreMerged(t *testing.T) {
	image := engine.ImageConfig{
		Entrypoint: []string{"/entry"}, Command: []string{"default"}, Env: []string{"A=image", "B=image"}, Labels: map[string]string{"a": "image", "b": "image"},
		User: "ann", WorkDir: "/w", Ports: []string{"80/tcp", "nonsense"}, Volumes: []string{"/v"},
		Health: &engine.Health{Command: []string{"CMD", "h"}, Retries: 7},
	}
	for _, c := range []struct {
		own                 string
		entrypoint, command []string
	}{
		{`"Cmd":null`, []string{"/entry"}, []string{"default"}},
		{`"Cmd":["own"]`, []string{"/entry"}, []string{"own"}},
		{`"Entrypoint":["/own"]`, []string{"/own"}, []string{}},
		{`"Entrypoint":["/own"],"Cmd":["x"]`, []string{"/own"}, []string{"x"}},
		{`"Entrypoint":[""],"Cmd":["x"]`, []string{}, []string{"x"}},
		{`"Entrypoint":[],"Cmd":["x"]`, []string{}, []string{"x"}},
	} {
		s, err := specOfBody(`{"Image":"i","Env":["A=own","C=own","B"],"Labels":{"a":"own"},"Healthcheck":{"Interval":1000000000},`+c.own+`,"HostConfig":{"NetworkMode":"none"}}`, image)
		if err != nil {
			t.Errorf("%s: %v", c.own, err)
			continue
		}
		if !slices.Equal(s.Entrypoint, c.entrypoint) || !slices.Equal(s.Command, c.command) || s.Entrypoint == nil || s.Command == nil {
			t.Errorf("%s: %q %q", c.own, s.Entrypoint, s.Command)
		}
		want := engine.Spec{
			Env: []string{"A=own", "C=own"}, Labels: map[string]string{"a": "own", "b": "image"}, User: "ann", WorkDir: "/w",
			Mounts: []engine.Mount{{Type: "volume", Target: "/v"}},
			Health: &engine.Health{Command: []string{"CMD", "h"}, Interval: time.Second, Retries: 7},
		}
		got := engine.Spec{Env: s.Env, Labels: s.Labels, User: s.User, WorkDir: s.WorkDir, Mounts: s.Mounts, Health: s.Health}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v", c.own, got, want)
		}
	}
}

func TestInspectTellsWhatWasAskedForAndWhatChanged(t *testing.T) {
	s, err := specOf(t, `"User":"u","Labels":{"a":"b"}`, `"Memory":67108864,"NanoCpus":500000000,"Binds":["/a:/b"],"PidsLimit":5`)
	if err != nil {
		t.Fatal(err)
	}
	s.Limits.Memory, s.Limits.Swap = 128<<20, -1
	s.Restart.Policy = "always"
	c, h, err := container.ConfigOf(s)
	if err != nil {
		t.Fatal(err)
	}
	if c.User != "u" || c.Labels["a"] != "b" || h.Memory != 128<<20 || h.MemorySwap != -1 || h.NanoCPUs != 500000000 ||
		h.RestartPolicy.Name != "always" || !slices.Equal(h.Binds, []string{"/a:/b"}) || *h.PidsLimit != 5 {
		t.Errorf("%+v %+v", c, h)
	}
	if c, h, err := container.ConfigOf(engine.Spec{Image: "i"}); err != nil || c.Image != "i" || h.NetworkMode != "bridge" {
		t.Error("one that no client made: ", c, h, err)
	}
}

func TestUpdateIsLaidOver(t *testing.T) {
	had := engine.Limits{Memory: 64 << 20, Swap: 64 << 20, CPUs: 0.5, Pids: 10}
	one := int64(1)
	for _, c := range []struct {
		update types.Resources
		want   engine.Limits
		err    string
	}{
		{types.Resources{}, had, ""},
		{types.Resources{PidsLimit: &one}, engine.Limits{Memory: 64 << 20, Swap: 64 << 20, CPUs: 0.5, Pids: 1}, ""},
		{types.Resources{Memory: 100 << 20}, engine.Limits{Memory: 100 << 20, Swap: 28 << 20, CPUs: 0.5, Pids: 10}, ""},
		{types.Resources{Memory: 200 << 20}, engine.Limits{}, "smaller than already set memoryswap limit"},
		{types.Resources{Memory: 200 << 20, MemorySwap: -1}, engine.Limits{Memory: 200 << 20, Swap: -1, CPUs: 0.5, Pids: 10}, ""},
		{types.Resources{CPUQuota: 5000}, engine.Limits{}, "NanoCPUs has already been set"},
	} {
		got, err := container.Limits(had, c.update)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%+v: %v", c.update, err)
			}
			continue
		}
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%+v: %+v, %v", c.update, got, err)
		}
	}
}

func TestListFilters(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	request, _ := json.Marshal(map[string]any{
		"Config":     map[string]any{"Labels": map[string]string{"a": "b"}, "ExposedPorts": map[string]any{"443/tcp": map[string]any{}}},
		"HostConfig": map[string]any{"NetworkMode": "n1", "Annotations": map[string]string{"x": "y"}},
	})
	up := engine.Container{
		ID: "abcdef", Name: "web-1", State: engine.Running, Created: now, Started: now, Image: "sha256:1", Healthy: "healthy",
		Spec: engine.Spec{
			Request: request, Networks: []engine.Attachment{{Network: "n1"}},
			Mounts: []engine.Mount{{Type: "bind", Source: "/host", Target: "/in"}},
		},
		Volumes: []engine.Mount{{Type: "volume", Source: "vol", Target: "/v"}},
		Place:   engine.Place{Ports: []engine.Port{{IP: "0.0.0.0", Host: 8080, Container: 80}}},
	}
	down := up
	down.State, down.Exit.Code, down.Healthy = engine.Exited, 3, ""
	fresh := up
	fresh.State, fresh.Started, fresh.Healthy = engine.Created, time.Time{}, ""
	ask := container.ChoiceNow{Networks: map[string]string{"n1": "1234"}, Images: map[string]bool{"sha256:1": true}}
	for _, c := range []struct {
		filters         string
		up, down, fresh bool // with all
	}{
		{``, true, true, true},
		{`{"name":["web"]}`, true, true, true},
		{`{"name":["^/web-1$"]}`, true, true, true},
		{`{"name":["^eb"]}`, false, false, false},
		{`{"id":["abc"]}`, true, true, true},
		{`{"id":["bc"]}`, false, false, false},
		{`{"status":["running"]}`, true, false, false},
		{`{"status":["exited","created"]}`, false, true, true},
		{`{"exited":["3"]}`, false, true, false},
		{`{"exited":["0"]}`, false, false, false},
		{`{"health":["healthy"]}`, true, false, false},
		{`{"health":["none"]}`, false, true, true},
		{`{"label":["a=b"]}`, true, true, true},
		{`{"label":["a=c"]}`, false, false, false},
		{`{"annotation":["x=y"]}`, true, true, true},
		{`{"annotation":["x=z"]}`, false, false, false},
		{`{"network":["n1"]}`, true, true, true},
		{`{"network":["123"]}`, true, true, true},
		{`{"network":["other"]}`, false, false, false},
		{`{"volume":["vol"]}`, true, true, true},
		{`{"volume":["/host"]}`, true, true, true},
		{`{"volume":["/v"]}`, true, true, true},
		{`{"volume":["/x"]}`, false, false, false},
		{`{"publish":["8080"]}`, true, false, false},
		{`{"publish":["80"]}`, false, false, false},
		{`{"expose":["400-500/tcp"]}`, true, false, false},
		{`{"ancestor":["any"]}`, true, true, true},
		{`{"is-task":["true"]}`, false, false, false},
		{`{"is-task":["false"]}`, true, true, true},
	} {
		f, err := api.ParseFilters(c.filters)
		if err != nil {
			t.Fatal(err)
		}
		for name, one := range map[string]struct {
			c    engine.Container
			want bool
		}{"up": {up, c.up}, "down": {down, c.down}, "fresh": {fresh, c.fresh}} {
			all := ask
			all.All = true
			if got, err := container.Takes(f, one.c, all); err != nil || got != one.want {
				t.Errorf("%s: %s is %v, %v", c.filters, name, got, err)
			}
		}
	}
	if got, _ := container.Takes(nil, down, ask); got {
		t.Error("a container that does not run is listed without being asked for")
	}
	early, late := ask, ask
	early.Before, late.Since = now, now.Add(-time.Second)
	if got, _ := container.Takes(nil, up, early); got {
		t.Error("it is before itself")
	}
	if got, _ := container.Takes(nil, up, late); !got {
		t.Error("it is not since the one before it")
	}
	for _, wrong := range []string{`{"exited":["x"]}`, `{"status":["x"]}`, `{"health":["x"]}`, `{"expose":["a:b"]}`, `{"is-task":["x"]}`} {
		f, _ := api.ParseFilters(wrong)
		if _, err := container.Takes(f, up, ask); err == nil {
			t.Errorf("%s was taken", wrong)
		}
	}
}

func TestDetachKeys(t *testing.T) {
	for _, c := range []struct {
		keys   string
		typed  []string
		passed string
		left   bool
	}{
		{"", []string{"hello"}, "hello", false},
		{"", []string{"a\x10\x11b"}, "a", true},
		{"", []string{"a\x10", "\x11"}, "a", true},
		{"", []string{"a\x10", "b"}, "a\x10b", false},
		{"", []string{"\x10\x10\x11"}, "\x10", true},
		{"", []string{"\x10"}, "", false}, // held back: the next key decides
		{"a", []string{"xa"}, "x", true},
		{"a,b", []string{"aab"}, "a", true},
		{"a,a,b", []string{"aaab"}, "a", true},
		{"a,b,a,c", []string{"ababac"}, "ab", true},
		{"ctrl-@,ctrl-_", []string{"\x00\x1f"}, "", true},
		{"ctrl-[", []string{"\x1b"}, "", true},
	} {
		passed, left, err := container.Keys(c.keys, c.typed...)
		if err != nil || passed != c.passed || left != c.left {
			t.Errorf("%q, %q: %q, %v, %v", c.keys, c.typed, passed, left, err)
		}
	}
	for _, wrong := range []string{"ctrl-", "ctrl-1", "ab", "a,,b", "ctrl-aa", "é"} {
		if _, _, err := container.Keys(wrong); err == nil {
			t.Errorf("%q was taken", wrong)
		}
	}
}

func TestTop(t *testing.T) {
	out, err := container.ParsePs("UID PID CMD\nroot 1 init\nroot 22 sh -c a  b\nann 333 x\n", []int{22, 333})
	if err != nil || fmt.Sprint(out.Titles, out.Processes) != "[UID PID CMD] [[root 22 sh -c a b] [ann 333 x]]" {
		t.Error(out, err)
	}
	if _, err := container.ParsePs("UID CMD\n", nil); err == nil {
		t.Error("without numbers of processes nobody knows whose they are")
	}
	for args, ok := range map[string]bool{"-ef": true, "-o pid=PID,cmd": true, "-eo uid=PID": false, "-o comm=myPID": false} {
		if err := container.CheckPsArgs(args); (err == nil) != ok {
			t.Errorf("%s: %v", args, err)
		}
	}
}

func TestStatus(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	c := engine.Container{Started: now.Add(-3 * time.Hour), Finished: now.Add(-time.Minute), Exit: engine.Exit{Code: 2}}
	for state, want := range map[engine.State]string{
		engine.Running: "Up 3 hours", engine.Paused: "Up 3 hours (Paused)", engine.Exited: "Exited (2) About a minute ago",
		engine.Restarting: "Restarting (2) About a minute ago", engine.Created: "Created",
	} {
		c.State = state
		if got := container.Status(c, now); got != want {
			t.Errorf("%s: %q", state, got)
		}
	}
	c.State = engine.Running
	for healthy, want := range map[string]string{"starting": "Up 3 hours (health: starting)", "unhealthy": "Up 3 hours (unhealthy)"} {
		c.Healthy = healthy
		if got := container.Status(c, now); got != want {
			t.Errorf("%s: %q", healthy, got)
		}
	}
	if got := container.Command([]string{"sh", "-c", "a b"}); got != "sh -c 'a b'" {
		t.Error(got)
	}
	for text, want := range map[string]int{"": 0, "all": 0, "0": -1, "5": 5, "-3": 0} {
		if got := container.Tail(text); got != want {
			t.Errorf("tail %q is %d", text, got)
		}
	}
}

func TestRandomNamesAreNames(t *testing.T) {
	rule := regexp.MustCompile(`^[a-z]+_[a-z]+[0-9]*$`)
	seen := map[string]bool{}
	for try := range 100 {
		name := container.RandomName(try)
		if !rule.MatchString(name) {
			t.Errorf("%q", name)
		}
		seen[name] = true
	}
	if len(seen) < 90 {
		t.Errorf("%d of 100 differ", len(seen))
	}
}

// lockedBuffer counts the writes that reach it.
type lockedBuffer struct {
	mu     sync.Mutex
	buf    bytes.Buffer
	writes int
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.writes++
	return b.buf.Write(p)
}

func (b *lockedBuffer) state() (string, int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String(), b.writes
}

func TestLinesInQuickSuccessionAreSentTogether(t *testing.T) {
	var b lockedBuffer
	flushed := make(chan struct{}, 10)
	w, end := container.Lazy(&b, func() { flushed <- struct{}{} })
	for range 100 {
		fmt.Fprint(w, "line\n")
	}
	<-flushed
	if text, writes := b.state(); len(text) != 500 || writes > 20 {
		t.Errorf("%d bytes in %d writes", len(text), writes)
	}
	fmt.Fprint(w, "last")
	end()
	if text, _ := b.state(); !strings.HasSuffix(text, "last") {
		t.Error("the rest was not sent")
	}
}

func TestRequestsOfOlderClients(t *testing.T) {
	const body = `{"Image":"i","Cmd":["c"],%s"HostConfig":{"NetworkMode":"none"%s}}`
	for _, c := range []struct{ version, config, host, want string }{
		{"1.43", "", `,"Mounts":[{"Type":"bind","Source":"/tmp","Target":"/t","BindOptions":{"ReadOnlyForceRecursive":true}}]`, "needs API v1.44"},
		{"1.44", "", `,"Mounts":[{"Type":"volume","Source":"v","Target":"/t","VolumeOptions":{"Subpath":"x"}}]`, "needs API v1.45"},
		{"1.47", "", `,"Mounts":[{"Type":"image","Source":"v","Target":"/t"}]`, "needs API v1.48"},
		{"1.40", "", `,"Capabilities":["x"]`, "HostConfig.Capabilities field is not supported"},
		{"1.41", "", `,"Mounts":[{"Type":"bind","Source":"/tmp","Target":"/t","VolumeOptions":{}}]`, ""},
		{"1.43", `"MacAddress":"02:00:00:00:00:01",`, "", "conflicting options: mac-address and the network mode"},
	} {
		var err error
		rt := api.NewRouter(nil, "")
		rt.Handle("POST /create", func(w http.ResponseWriter, r *http.Request) error {
			_, err = container.SpecOf(r, engine.ImageConfig{})
			return nil
		})
		r := httptest.NewRequest("POST", "/v"+c.version+"/create", strings.NewReader(fmt.Sprintf(body, c.config, c.host)))
		r.Header.Set("Content-Type", "application/json")
		rt.ServeHTTP(httptest.NewRecorder(), r)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s %s: %v, want %q", c.version, c.host, err, c.want)
		}
	}
}
