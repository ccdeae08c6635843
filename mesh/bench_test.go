package mesh_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkProxy compares the CPU time of one proxied request with nginx's: wrk, 64
// connections, answers of 1 KB from the same backend, one proxy after the other in each of
// some rounds. The figures are medians.
func BenchmarkProxy(b *testing.B) {
	for _, program := range []string{"nginx", "wrk"} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("CI") == "true" {
				b.Fatalf("%s is missing: install the packages nginx-light and wrk", program)
			}
			b.Skipf("%s is not installed", program)
		}
	}
	origin := freeAddr(b)
	startNginx(b, origin, fmt.Sprintf("location / { return 200 '%s'; }", strings.Repeat("x", 1024)))
	theirs := freeAddr(b)
	theirPID := startNginx(b, theirs, "location / { proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection ''; "+
		"proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; "+
		"proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Request-Id $request_id; }",
		"upstream origin { server "+origin+"; keepalive 128; keepalive_requests 1000000; }")
	ours, ourPID := startMesh(b, origin)

	const rounds = 3
	var our, their, rate []float64
	for b.Loop() {
		for range rounds {
			cpu, perSecond := measure(b, ours, ourPID)
			our, rate = append(our, cpu), append(rate, perSecond)
			cpu, _ = measure(b, theirs, theirPID)
			their = append(their, cpu)
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(our), "µs-cpu/req")
	b.ReportMetric(median(their), "µs-cpu/req-nginx")
	b.ReportMetric(median(our)/median(their), "times-nginx")
	b.ReportMetric(median(rate), "req/s")
}

func median(list []float64) float64 {
	slices.Sort(list)
	return list[len(list)/2]
}

// measure loads one proxy and gives its CPU time per request in microseconds.
func measure(b *testing.B, addr string, pid int) (cpu, perSecond float64) {
	b.Helper()
	before := cpuTime(b, pid)
	out, err := exec.Command("wrk", "-t", "2", "-c", "64", "-d", "3s", "-H", "Host: app.localhost", "http://"+addr+"/").CombinedOutput()
	spent := cpuTime(b, pid) - before
	if err != nil {
		b.Fatalf("wrk: %v\n%s", err, out)
	}
	counts := regexp.MustCompile(`(\d+) requests in ([\d.]+)s`).FindSubmatch(out)
	if counts == nil || strings.Contains(string(out), "Non-2xx") || strings.Contains(string(out), "Socket errors") {
		b.Fatalf("wrk says\n%s", out)
	}
	n, _ := strconv.ParseFloat(string(counts[1]), 64)
	seconds, _ := strconv.ParseFloat(string(counts[2]), 64)
	return float64(spent.Microseconds()) / n, n / seconds
}

// cpuTime is that of a process and its children, as the kernel counts it in ticks of 10 ms.
func cpuTime(b *testing.B, pid int) time.Duration {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Skip(err)
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+2:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	sum := time.Duration(user+system) * 10 * time.Millisecond
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	for _, child := range strings.Fields(string(children)) {
		n, _ := strconv.Atoi(child)
		sum += cpuTime(b, n)
	}
	return sum
}

func freeAddr(b *testing.B) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// startNginx serves one server block in a directory of its own.
func startNginx(b *testing.B, addr, server string, more ...string) (pid int) {
	b.Helper()
	dir := b.TempDir()
	conf := fmt.Sprintf(`daemon off; worker_processes 2; pid %[1]s/pid; error_log stderr error;
events { worker_connections 1024; }
http {
	access_log off; keepalive_requests 1000000;
	client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fcgi; uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
	%[2]s
	server { listen %[3]s; %[4]s }
}`, dir, strings.Join(more, "\n"), addr, server)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command("nginx", "-e", "stderr", "-p", dir, "-c", file)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait() // only its figures matter
	})
	for range 500 {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return cmd.Process.Pid
		}
		time.Sleep(10 * time.Millisecond)
	}
	b.Fatal("nginx does not answer")
	return 0
}
