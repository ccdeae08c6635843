// Package probe finds out what a machine can do for containers by doing it, in small.
//
// Every check leaves the machine as it was. A check that fails names the remedy.
package probe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// A Check is one thing that this machine can do, or what to do so that it can.
type Check struct {
	Name     string `json:"name"`
	OK       bool   `json:"ok"`
	Optional bool   `json:"optional"` // containers run without it
	Detail   string `json:"detail"`   // what was found
	Remedy   string `json:"remedy,omitempty"`
}

// Run makes all checks, in an order in which one explains the next.
func Run(ctx context.Context) []Check {
	checks := []struct {
		name   string
		try    func() (string, error)
		remedy string
		needed bool
	}{
		{"root", root, "start sampan as root", true},
		{"capabilities", capabilities, "grant CAP_SYS_ADMIN and CAP_NET_ADMIN, for instance with docker run --privileged", true},
		{"cgroups", cgroups, "mount cgroup2 at /sys/fs/cgroup and leave the controllers memory, cpu and pids on", true},
		{"overlayfs", overlay, "load the module overlay; until then layers are copied, which takes room and time", false},
		{"namespaces", namespaces, "allow new namespaces: sysctl kernel.unprivileged_userns_clone and seccomp of an outer container may forbid them", true},
		{"user namespaces", users, "sysctl user.max_user_namespaces=15000; containers work without", false},
		{"nftables", tables, "load the modules nf_tables and nf_nat", true},
		{"bridges", bridges, "load the modules bridge and veth", true},
		{"seccomp", seccomp, "use a kernel with CONFIG_SECCOMP_FILTER", true},
		{"inotify", inotify, "sysctl fs.inotify.max_user_instances=1024", false},
		{"resource limits", resources, "grant CAP_SYS_RESOURCE; without it containers cannot have raised limits", false},
	}
	var out []Check
	for _, c := range checks {
		if ctx.Err() != nil {
			break
		}
		detail, err := c.try()
		check := Check{Name: c.name, OK: err == nil, Optional: !c.needed, Detail: detail}
		if err != nil {
			check.Detail, check.Remedy = err.Error(), c.remedy
		}
		out = append(out, check)
	}
	return out
}

func root() (string, error) {
	if uid := os.Geteuid(); uid != 0 {
		return "", fmt.Errorf("this is user %d", uid)
	}
	return "yes", nil
}

func has(capability int) bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false
	}
	return data[capability/32].Effective&(1<<(capability%32)) != 0
}

func capabilities() (string, error) {
	names := map[int]string{unix.CAP_SYS_ADMIN: "CAP_SYS_ADMIN", unix.CAP_NET_ADMIN: "CAP_NET_ADMIN", unix.CAP_SYS_CHROOT: "CAP_SYS_CHROOT", unix.CAP_MKNOD: "CAP_MKNOD"}
	var missing []string
	for capability, name := range names {
		if !has(capability) {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return "", errors.New("missing: " + strings.Join(missing, ", "))
	}
	return "all that containers need", nil
}

func resources() (string, error) {
	if !has(unix.CAP_SYS_RESOURCE) {
		return "", errors.New("CAP_SYS_RESOURCE is missing; Sampan does without")
	}
	return "may be raised", nil
}

// cgroups makes one in each hierarchy that a container's limits need.
func cgroups() (string, error) {
	const base = "/sys/fs/cgroup"
	var st unix.Statfs_t
	if err := unix.Statfs(base, &st); err != nil {
		return "", fmt.Errorf("%s: %w", base, err)
	}
	name := fmt.Sprintf("sampan-probe-%d", os.Getpid())
	if st.Type == unix.CGROUP2_SUPER_MAGIC {
		raw, err := os.ReadFile(base + "/cgroup.controllers")
		if err != nil {
			return "", err
		}
		if missing := without(strings.Fields(string(raw))); missing != "" {
			return "", fmt.Errorf("version 2 without the controllers %s", missing)
		}
		return "version 2: " + strings.TrimSpace(string(raw)), try(filepath.Join(base, name))
	}
	var found []string
	for _, controller := range []string{"memory", "cpu", "pids", "devices", "freezer"} {
		if err := try(filepath.Join(base, controller, name)); err == nil {
			found = append(found, controller)
		}
	}
	if missing := without(found); missing != "" {
		return "", fmt.Errorf("version 1 without the controllers %s", missing)
	}
	kind := "version 1: "
	if _, err := os.Stat(base + "/unified/cgroup.procs"); err == nil {
		kind = "hybrid: "
	}
	return kind + strings.Join(found, " "), nil
}

func try(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	return os.Remove(dir)
}

func without(found []string) string {
	var missing []string
	for _, wanted := range []string{"memory", "cpu", "pids"} {
		there := false
		for _, name := range found {
			there = there || name == wanted
		}
		if !there {
			missing = append(missing, wanted)
		}
	}
	return strings.Join(missing, ", ")
}

func overlay() (detail string, err error) {
	dir, err := os.MkdirTemp("", "sampan-probe")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	for _, part := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(dir, part), 0o755); err != nil {
			return "", err
		}
	}
	options := fmt.Sprintf("lowerdir=%s/lower,upperdir=%s/upper,workdir=%s/work", dir, dir, dir)
	if err := unix.Mount("overlay", dir+"/merged", "overlay", 0, options); err != nil {
		return "", fmt.Errorf("mount an overlay in %s: %w", filepath.Dir(dir), err)
	}
	return "layers are shared", unix.Unmount(dir+"/merged", unix.MNT_DETACH)
}

// namespaces are made by a thread that is not used again.
func namespaces() (string, error) {
	flags := unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS
	if err := onThread(func() error { return unix.Unshare(flags) }); err != nil {
		return "", fmt.Errorf("make namespaces: %w", err)
	}
	return "mount, network, ipc, uts", nil
}

func users() (string, error) {
	raw, err := os.ReadFile("/proc/sys/user/max_user_namespaces")
	if err != nil {
		return "", fmt.Errorf("the kernel has none: %w", err)
	}
	if most := strings.TrimSpace(string(raw)); most != "0" {
		return "up to " + most, nil
	}
	return "", errors.New("none are allowed")
}

// tables writes a table with a rule that translates addresses, in a network of its own.
func tables() (string, error) {
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		c, err := nftables.New()
		if err != nil {
			return err
		}
		t := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "probe"})
		ch := c.AddChain(&nftables.Chain{Name: "out", Table: t, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource})
		c.AddRule(&nftables.Rule{Table: t, Chain: ch, Exprs: []expr.Any{&expr.Masq{}}})
		return c.Flush()
	})
	if err != nil {
		return "", fmt.Errorf("write a table: %w", err)
	}
	return "addresses are translated", nil
}

func bridges() (string, error) {
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		return links()
	})
	if err != nil {
		return "", err
	}
	return "bridge and veth", nil
}

func seccomp() (string, error) {
	// A null filter is a fault of address where filters work, and of value where they do not.
	if _, _, errno := unix.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, 0); errno != unix.EFAULT {
		return "", fmt.Errorf("filters of system calls: %w", errno)
	}
	return "filters", nil
}

func inotify() (string, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		return "", err
	}
	return "logs are followed", unix.Close(fd)
}

// onThread runs fn on a thread that ends with it.
func onThread(fn func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // not unlocked: the thread ends with the goroutine
		result <- fn()
	}()
	return <-result
}
