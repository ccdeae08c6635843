package container

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/internal/fault"
)

// security reads the options of that name. Docker lets programs raise privileges unless told
// otherwise, and the engine the other way round.
func security(_ context.Context, q *request, out *engine.Spec) error {
	out.NewPrivileges = true
	for _, option := range q.HostConfig.SecurityOpt {
		if err := securityOption(option, out); err != nil {
			return err
		}
	}
	return q.paths(out)
}

func securityOption(option string, out *engine.Spec) error {
	key, value, ok := strings.Cut(option, "=")
	if !ok {
		key, value, ok = strings.Cut(option, ":")
	}
	wrong := fault.Invalid("invalid --security-opt 1: %q", option)
	switch key {
	case "no-new-privileges":
		on, err := strconv.ParseBool(value)
		if ok && err != nil {
			return wrong
		}
		out.NewPrivileges = ok && !on
		return nil
	case "disable":
		if !ok {
			return nil // SELinux, which is not used
		}
	}
	if !ok {
		return wrong
	}
	switch key {
	case "label": // SELinux, which is not used
	case "apparmor":
		out.AppArmor = value
	case "seccomp":
		return seccomp(value, out)
	case "systempaths":
		if value != "unconfined" {
			return wrong
		}
		out.Unmasked = true
	case "writable-cgroups":
		if on, err := strconv.ParseBool(value); err != nil || on {
			return fault.Invalid("writable-cgroups is not supported by this engine")
		}
	default:
		return fault.Invalid("invalid --security-opt 2: %q", option)
	}
	return nil
}

func seccomp(value string, out *engine.Spec) error {
	switch value {
	case "builtin", "":
	case "unconfined":
		out.Seccomp = value
	default:
		if !json.Valid([]byte(value)) {
			return fault.Invalid("Decoding seccomp profile failed: it is not JSON")
		}
		out.Seccomp = value
	}
	return nil
}

// paths are those of /proc and /sys that are hidden. A client may ask for none, which is
// how the command line spells systempaths=unconfined, or for those that are the default.
func (q *request) paths(out *engine.Spec) error {
	h := q.HostConfig
	if h.MaskedPaths != nil && len(h.MaskedPaths) == 0 && h.ReadonlyPaths != nil && len(h.ReadonlyPaths) == 0 {
		out.Unmasked = true
		return nil
	}
	for _, p := range slices.Concat(h.MaskedPaths, h.ReadonlyPaths) {
		if !slices.Contains(usualPaths(), p) {
			return fault.Invalid("this engine cannot hide the path %s", p)
		}
	}
	return nil
}

// usualPaths are hidden or read-only in each container.
func usualPaths() []string {
	return slices.Concat(maskedPaths(), readonlyPaths())
}

func maskedPaths() []string {
	return []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug",
		"/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
	}
}

func readonlyPaths() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}
