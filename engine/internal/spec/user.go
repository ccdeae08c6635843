package spec

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sampan.dev/sampan/internal/fault"
)

// LookupUser finds numbers for "user", "user:group", "uid" or "uid:gid" in the passwd and group
// files of a root file system, and for further groups; empty is root. A symbolic link that leads
// out of rootfs is not followed, so that an image cannot make us read the host's files.
func LookupUser(rootfs, who string, groups ...string) (specs.User, error) {
	root, err := os.OpenRoot(rootfs)
	if err != nil {
		return specs.User{}, fmt.Errorf("open the root file system: %w", err)
	}
	defer root.Close()
	passwd, err := content(root, "etc/passwd")
	if err != nil {
		return specs.User{}, err
	}
	group, err := content(root, "etc/group")
	if err != nil {
		return specs.User{}, err
	}
	found, err := user.GetExecUser(who, nil, strings.NewReader(passwd), strings.NewReader(group))
	if err != nil {
		return specs.User{}, fault.Invalid("the container cannot run as %q: %w", who, err).
			Try("use a user that the image's /etc/passwd names, or a number")
	}
	u := specs.User{UID: uint32(found.Uid), GID: uint32(found.Gid), AdditionalGids: []uint32{uint32(found.Gid)}}
	further, err := user.GetAdditionalGroups(groups, strings.NewReader(group))
	if err != nil {
		return specs.User{}, fault.Invalid("the container cannot be in the groups %s: %w", strings.Join(groups, ", "), err).
			Try("use groups that the image's /etc/group names, or numbers")
	}
	for _, gid := range append(found.Sgids, further...) {
		if !slices.Contains(u.AdditionalGids, uint32(gid)) {
			u.AdditionalGids = append(u.AdditionalGids, uint32(gid))
		}
	}
	return u, nil
}

const maxUserFile = 4 << 20

// content is empty when there is no such file, as in an image from scratch.
func content(root *os.Root, name string) (string, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0) // a FIFO must not hold us
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fault.Invalid("the image's /%s cannot be read: %w", name, err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return "", fault.Invalid("the image's /%s is not a file", name)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxUserFile))
	if err != nil {
		return "", fmt.Errorf("read the image's /%s: %w", name, err)
	}
	return string(text), nil
}
