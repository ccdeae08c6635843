//go:build linux

package test_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A daemon is what Docker's client speaks to: ours, or Docker's.
type daemon struct {
	name   string
	host   string                           // unix://…
	memory func(b *testing.B) (bytes int64) // resident, of all its processes
	client *http.Client
	took   map[string][]time.Duration
}

// both starts ours and, where there is one, Docker's beside it: DOCKERD, or the one in PATH.
func both(b *testing.B) []*daemon {
	b.Helper()
	if os.Getuid() != 0 {
		b.Skip("containers need root")
	}
	m := begin(b)
	all := []*daemon{{name: "sampan", host: "unix://" + filepath.Join(m.data, "run", "docker.sock"), memory: func(b *testing.B) int64 {
		bytes, _ := family(b, m)
		return bytes
	}}}
	if peer := dockerd(b); peer != nil {
		all = append(all, peer)
	}
	files, err := box()
	if err != nil {
		b.Fatal(err)
	}
	for _, d := range all {
		d.took = map[string][]time.Duration{}
		path := strings.TrimPrefix(d.host, "unix://")
		d.client = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}}}
		d.must(b, bytes.NewReader(files), "import", "-c", `CMD ["sh"]`, "-c", "ENV PATH=/bin", "-", "box")
	}
	return all
}

// dockerd starts one on a socket and a directory of its own; nil where there is none.
func dockerd(b *testing.B) *daemon {
	b.Helper()
	program := os.Getenv("DOCKERD")
	if program == "" {
		program = "dockerd"
	}
	program, err := exec.LookPath(program)
	if err != nil {
		b.Logf("there is no dockerd to compare with: set DOCKERD, or install docker.io")
		return nil
	}
	dir, err := os.MkdirTemp("", "dockerd")
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(program, "--data-root", dir+"/data", "--exec-root", dir+"/exec", "--pidfile", dir+"/pid", "-H", "unix://"+dir+"/sock",
		"--bip", "172.29.0.1/16", "--log-level", "error")
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(program)+":"+os.Getenv("PATH"))
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
		if mounts, err := filepath.Glob(dir + "/exec/netns/*"); err == nil {
			for _, m := range mounts {
				syscall.Unmount(m, syscall.MNT_DETACH)
			}
		}
		os.RemoveAll(dir)
	})
	d := &daemon{name: "dockerd", host: "unix://" + dir + "/sock"}
	d.memory = func(b *testing.B) int64 { return dockerMemory(b, cmd.Process.Pid, dir) }
	for range 300 {
		if _, err := d.docker(nil, "version"); err == nil {
			return d
		}
		time.Sleep(100 * time.Millisecond)
	}
	b.Fatal("dockerd does not answer")
	return nil
}

// dockerMemory is that of the daemon, containerd, shims and proxies.
func dockerMemory(b *testing.B, pid int, dir string) (sum int64) {
	b.Helper()
	procs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		b.Fatal(err)
	}
	for _, p := range procs {
		cmdline, _ := os.ReadFile(filepath.Join(p, "cmdline"))
		status, _ := os.ReadFile(filepath.Join(p, "status"))
		if !bytes.Contains(cmdline, []byte(dir)) && !bytes.Contains(status, fmt.Appendf(nil, "\nPPid:\t%d\n", pid)) {
			continue
		}
		sum += residentOf(status)
	}
	return sum
}

func (d *daemon) docker(in io.Reader, args ...string) (string, error) {
	cmd := exec.Command("docker", args...)
	plugins, err := filepath.Abs("../.cache/test/docker")
	if err != nil {
		return "", err
	}
	cmd.Env, cmd.Stdin = append(os.Environ(), "DOCKER_HOST="+d.host, "DOCKER_CONFIG="+plugins), in
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: docker %s: %w\n%s", d.name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

func (d *daemon) must(b *testing.B, in io.Reader, args ...string) string {
	b.Helper()
	out, err := d.docker(in, args...)
	if err != nil {
		b.Fatal(err)
	}
	return out
}

// time notes how long something takes.
func (d *daemon) time(what string, do func()) {
	begin := time.Now()
	do()
	d.took[what] = append(d.took[what], time.Since(begin))
}

// tell reports medians in milliseconds, one of each daemon.
func tell(b *testing.B, all []*daemon) {
	b.Helper()
	b.ReportMetric(0, "ns/op")
	for _, d := range all {
		for what, times := range d.took {
			slices.Sort(times)
			b.ReportMetric(times[len(times)/2].Seconds()*1000, d.name+"-"+what+"-ms")
		}
	}
}

// call asks the API and returns the answer.
func (d *daemon) call(b *testing.B, method, path string, body any) map[string]any {
	b.Helper()
	var in io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			b.Fatal(err)
		}
		in = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(b.Context(), method, "http://docker/v1.41"+path, in)
	if err != nil {
		b.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := d.client.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		b.Fatalf("%s: %s %s: %s %v %s", d.name, method, path, resp.Status, err, raw)
	}
	var out map[string]any
	_ = json.Unmarshal(raw, &out) // some answers have none
	return out
}

type object = map[string]any

// published is a container with a port of the host.
func published(command ...string) object {
	return object{"Image": "box", "Cmd": command, "ExposedPorts": object{"80/tcp": object{}},
		"HostConfig": object{"PortBindings": object{"80/tcp": []object{{"HostIp": "127.0.0.1"}}}}}
}

// BenchmarkEngineRun is a container that does nothing, through Docker's client.
func BenchmarkEngineRun(b *testing.B) {
	all := both(b)
	for b.Loop() {
		for _, d := range all {
			d.time("run", func() { d.must(b, nil, "run", "--rm", "box", "true") })
		}
	}
	tell(b, all)
}

// BenchmarkEngineAPI is the same with a published port, through the API.
func BenchmarkEngineAPI(b *testing.B) {
	all := both(b)
	for b.Loop() {
		for _, d := range all {
			d.time("cycle", func() {
				id := d.call(b, "POST", "/containers/create", published("true"))["Id"].(string)
				d.call(b, "POST", "/containers/"+id+"/start", nil)
				d.call(b, "POST", "/containers/"+id+"/wait", nil)
				d.call(b, "DELETE", "/containers/"+id, nil)
			})
		}
	}
	tell(b, all)
}

// BenchmarkEngineParallel starts thirty containers at once.
func BenchmarkEngineParallel(b *testing.B) {
	all := both(b)
	for b.Loop() {
		for _, d := range all {
			var ids []string
			for range 30 {
				ids = append(ids, d.call(b, "POST", "/containers/create", object{"Image": "box", "Cmd": []string{"sleep", "1000"}})["Id"].(string))
			}
			d.time("start-30", func() {
				var w sync.WaitGroup
				for _, id := range ids {
					w.Go(func() { d.call(b, "POST", "/containers/"+id+"/start", nil) })
				}
				w.Wait()
			})
			d.must(b, nil, append([]string{"rm", "-f"}, ids...)...)
		}
	}
	tell(b, all)
}

// BenchmarkEngineMemory is the memory of everything that ten containers with ports need.
func BenchmarkEngineMemory(b *testing.B) {
	all := both(b)
	for b.Loop() {
		for _, d := range all {
			b.ReportMetric(float64(d.memory(b))/1e6, d.name+"-idle-MB")
			var ids []string
			for range 10 {
				id := d.call(b, "POST", "/containers/create", published("sleep", "1000"))["Id"].(string)
				d.call(b, "POST", "/containers/"+id+"/start", nil)
				ids = append(ids, id)
			}
			time.Sleep(idle)
			b.ReportMetric(float64(d.memory(b))/1e6, d.name+"-ten-MB")
			d.must(b, nil, append([]string{"rm", "-f"}, ids...)...)
		}
	}
	tell(b, all)
}

// BenchmarkEngineBuild builds by BuildKit: what is built already, and with a step to be run.
func BenchmarkEngineBuild(b *testing.B) {
	all := both(b)
	dir := b.TempDir()
	const text = "FROM box\nARG N\nRUN echo $N >/n\nCOPY Dockerfile /\nCMD [\"cat\", \"/n\"]\n"
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	build := func(d *daemon, n string) { d.must(b, nil, "build", "-q", "-t", "built", "--build-arg", "N="+n, dir) }
	for _, d := range all {
		build(d, "0")
	}
	for n := 1; b.Loop(); n++ {
		for _, d := range all {
			d.time("build", func() { build(d, strconv.Itoa(n)) })
			d.time("cached-build", func() { build(d, strconv.Itoa(n)) })
		}
	}
	tell(b, all)
}

// BenchmarkEngineCompose starts and ends three services.
func BenchmarkEngineCompose(b *testing.B) {
	all := both(b)
	file := filepath.Join(b.TempDir(), "compose.yaml")
	const text = `services:
  a: {image: box, stop_signal: KILL, command: sleep 1000}
  b: {image: box, stop_signal: KILL, command: sleep 1000, depends_on: [a]}
  c: {image: box, stop_signal: KILL, command: sleep 1000, ports: ["127.0.0.1::80"]}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		for _, d := range all {
			d.time("up", func() { d.must(b, nil, "compose", "-f", file, "up", "-d") })
			d.time("down", func() { d.must(b, nil, "compose", "-f", file, "down") })
		}
	}
	tell(b, all)
}

// BenchmarkEngineImport loads a layer of 200 MB that does not compress.
func BenchmarkEngineImport(b *testing.B) {
	all := both(b)
	const size = 200 << 20
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	w.WriteHeader(&tar.Header{Name: "data", Mode: 0o644, Size: size})
	io.CopyN(w, rand.Reader, size)
	w.Close()
	for b.Loop() {
		for _, d := range all {
			d.time("import", func() { d.must(b, bytes.NewReader(layer.Bytes()), "import", "-", "large") })
			d.must(b, nil, "rmi", "large")
		}
	}
	tell(b, all)
}

// BenchmarkEngineLog is a container that prints 100 MB of lines, which are kept.
func BenchmarkEngineLog(b *testing.B) {
	all := both(b)
	for b.Loop() {
		for _, d := range all {
			d.time("log-100MB", func() {
				d.must(b, nil, "run", "-d", "--name", "prints", "box", "sh", "-c", "yes aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa | head -c 100000000")
				d.must(b, nil, "wait", "prints")
			})
			d.must(b, nil, "rm", "prints")
		}
	}
	tell(b, all)
}

// BenchmarkEngineThroughput fetches 1 GB from a container: from another one, and from the host
// through a published port.
func BenchmarkEngineThroughput(b *testing.B) {
	all := both(b)
	const much = 1 << 30
	serve := fmt.Sprintf("mkdir /w; dd if=/dev/zero of=/w/f bs=1 count=0 seek=%d; exec httpd -f -h /w", much)
	for b.Loop() {
		for _, d := range all {
			d.must(b, nil, "network", "create", "wire")
			d.must(b, nil, "run", "-d", "--name", "source", "--network", "wire", "-p", "127.0.0.1::80", "box", "sh", "-c", serve)
			d.must(b, nil, "run", "-d", "--name", "sink", "--network", "wire", "box", "sleep", "1000")
			ip := d.must(b, nil, "inspect", "-f", "{{(index .NetworkSettings.Networks \"wire\").IPAddress}}", "source")
			addr := d.must(b, nil, "port", "source", "80/tcp")
			d.must(b, nil, "exec", "sink", "sh", "-c", "until wget -q -O /dev/null http://"+ip+"/f; do sleep 0.1; done") // it serves
			d.time("between", func() { d.must(b, nil, "exec", "sink", "wget", "-q", "-O", "/dev/null", "http://"+ip+"/f") })
			d.time("published", func() {
				resp, err := http.Get("http://" + addr + "/f")
				if err != nil {
					b.Fatal(err)
				}
				defer resp.Body.Close()
				if n, err := io.Copy(io.Discard, resp.Body); n != much || err != nil {
					b.Fatalf("%s: %d bytes came, %v", d.name, n, err)
				}
			})
			d.must(b, nil, "rm", "-f", "source", "sink")
			d.must(b, nil, "network", "rm", "wire")
		}
	}
	tell(b, all)
}
