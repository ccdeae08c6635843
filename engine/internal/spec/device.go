package spec

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sampan.dev/sampan/internal/fault"
)

// devicesOf lists what is made in /dev beside the defaults of the runtime, and who may be used.
func devicesOf(o Options) ([]specs.LinuxDevice, []specs.LinuxDeviceCgroup, error) {
	if o.Privileged {
		devices, err := hostDevices()
		return devices, []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}, err
	}
	rules := []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}
	var devices []specs.LinuxDevice
	for _, asked := range o.Devices {
		found, err := expand(asked)
		if err != nil {
			return nil, nil, fault.Invalid("the device %q cannot be given to a container: %w", asked.Host, err)
		}
		access := asked.Access
		if access == "" {
			access = "rwm"
		}
		for _, d := range found {
			devices = append(devices, d)
			rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: d.Type, Major: &d.Major, Minor: &d.Minor, Access: access})
		}
	}
	for _, text := range o.DeviceRules {
		rule, err := deviceRule(text)
		if err != nil {
			return nil, nil, err
		}
		rules = append(rules, rule)
	}
	return devices, rules, nil
}

// deviceRule reads "TYPE MAJOR:MINOR ACCESS", where * is any number.
func deviceRule(text string) (specs.LinuxDeviceCgroup, error) {
	wrong := fault.Invalid("%q is not a rule about devices", text).Try("write it as in: c 42:* rmw")
	fields := strings.Fields(text)
	if len(fields) != 3 || !slices.Contains([]string{"a", "b", "c"}, fields[0]) || strings.Trim(fields[2], "rwm") != "" {
		return specs.LinuxDeviceCgroup{}, wrong
	}
	r := specs.LinuxDeviceCgroup{Allow: true, Type: fields[0], Access: fields[2]}
	major, minor, ok := strings.Cut(fields[1], ":")
	if !ok {
		return r, wrong
	}
	for _, n := range []struct {
		text string
		to   **int64
	}{{major, &r.Major}, {minor, &r.Minor}} {
		if n.text == "*" {
			continue
		}
		number, err := strconv.ParseInt(n.text, 10, 32)
		if err != nil || number < 0 {
			return r, wrong
		}
		*n.to = &number
	}
	return r, nil
}

// expand is the device, or all devices in a directory, under the names that a container has
// for them.
func expand(d Device) ([]specs.LinuxDevice, error) {
	host, err := filepath.EvalSymlinks(d.Host)
	if err != nil {
		return nil, err
	}
	target := d.Container
	if target == "" {
		target = d.Host
	}
	info, err := os.Stat(host)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		made, err := device(host)
		made.Path = target
		return []specs.LinuxDevice{made}, err
	}
	var all []specs.LinuxDevice
	err = filepath.WalkDir(host, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		made, err := device(path)
		if errors.Is(err, errNoDevice) {
			return nil
		}
		made.Path = filepath.Join(target, strings.TrimPrefix(path, host))
		all = append(all, made)
		return err
	})
	return all, err
}

var errNoDevice = errors.New("it is not a device")

func device(path string) (specs.LinuxDevice, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return specs.LinuxDevice{}, err
	}
	kind := ""
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFBLK:
		kind = "b"
	case unix.S_IFCHR:
		kind = "c"
	default:
		return specs.LinuxDevice{}, errNoDevice
	}
	mode := fs.FileMode(st.Mode & 0o777)
	return specs.LinuxDevice{
		Path: path, Type: kind, FileMode: &mode, UID: &st.Uid, GID: &st.Gid,
		Major: int64(unix.Major(uint64(st.Rdev))), Minor: int64(unix.Minor(uint64(st.Rdev))),
	}, nil
}

// hostDevices are all of /dev but what a container has of its own.
func hostDevices() ([]specs.LinuxDevice, error) {
	own := []string{"/dev/pts", "/dev/shm", "/dev/fd", "/dev/mqueue", "/dev/console", "/dev/.udev"}
	var all []specs.LinuxDevice
	err := filepath.WalkDir("/dev", func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case slices.Contains(own, path) && e.IsDir():
			return fs.SkipDir
		case slices.Contains(own, path) || e.Type()&fs.ModeDevice == 0:
			return nil
		}
		if d, err := device(path); err == nil { // it may have gone meanwhile
			all = append(all, d)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the devices of the machine: %w", err)
	}
	return all, nil
}
