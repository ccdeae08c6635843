package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/containerd/v2/pkg/archive"
	"github.com/containerd/continuity/fs"
	"golang.org/x/sys/unix"

	"sampan.dev/sampan/engine/internal/image"
	"sampan.dev/sampan/engine/internal/spec"
	"sampan.dev/sampan/engine/internal/store"
	"sampan.dev/sampan/internal/fault"
)

// Files is a directory of the host in which the file system of a container is seen, with its
// mounts, until release is called. What is in it is not to be trusted: paths are resolved as if
// it were the root directory.
func (e *Engine) Files(ctx context.Context, id string) (root string, release func() error, err error) {
	now, err := e.Container(ctx, id)
	if err != nil {
		return "", nil, err
	}
	if now.Pid != 0 {
		return e.inside(ctx, now)
	}
	c, err := e.find(now.ID)
	if err != nil {
		return "", nil, err
	}
	free, err := c.hold(ctx)
	if err != nil {
		return "", nil, err
	}
	defer free()
	if err := e.mount(ctx, c); err != nil {
		return "", nil, err
	}
	view, err := e.view(c.now())
	if err != nil {
		return "", nil, errors.Join(err, unmountBelow(view), os.Remove(view))
	}
	return view, func() error {
		if err := unmountBelow(view); err != nil {
			return err
		}
		return os.Remove(view)
	}, nil
}

// inside is the root directory of a container as it sees it itself. It is opened once: the number
// of a process may be another's later.
func (e *Engine) inside(ctx context.Context, c Container) (string, func() error, error) {
	f, err := os.OpenFile(fmt.Sprintf("/proc/%d/root", c.Pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == nil {
		var again Container
		if again, err = e.Container(ctx, c.ID); err == nil && again.Pid != c.Pid {
			err = errors.New("it has just ended")
		}
		if err != nil {
			f.Close()
		}
	}
	if err != nil {
		return "", nil, fault.Conflict("the files of container %s cannot be reached: %w", c.Name, err).Try("try again")
	}
	return fmt.Sprintf("/proc/self/fd/%d", f.Fd()), f.Close, nil
}

// views is where the files of containers that do not run are shown.
func (e *Engine) views() string { return e.path("run", "mounts") }

// view shows the root directory of a container that does not run, with what would be mounted.
func (e *Engine) view(r record) (string, error) {
	if err := os.MkdirAll(e.views(), 0o700); err != nil {
		return "", fmt.Errorf("show the files of container %s: %w", r.Name, err)
	}
	view, err := os.MkdirTemp(e.views(), "view")
	if err != nil {
		return "", fmt.Errorf("show the files of container %s: %w", r.Name, err)
	}
	if err := unix.Mount(filepath.Join(e.home(r.ID), "rootfs"), view, "", unix.MS_BIND, ""); err != nil {
		return view, fmt.Errorf("show the files of container %s: %w", r.Name, err)
	}
	for _, m := range r.Spec.Mounts {
		if m.Type == Bind {
			if err := lay(m.Source, view, m.Target); err != nil {
				return view, err
			}
		}
	}
	for _, m := range r.Volumes {
		v, err := e.volumes.Volume(m.Source)
		if err == nil {
			err = layPart(v.Path, m.Subpath, view, m.Target)
		}
		if err != nil {
			return view, err
		}
	}
	return view, nil
}

// layPart lays what is at a path in a volume.
func layPart(volume, sub, root, target string) error {
	if sub == "" {
		return lay(volume, root, target)
	}
	part, err := openIn(volume, sub)
	if err != nil {
		return err
	}
	defer part.Close()
	return lay(fmt.Sprintf("/proc/self/fd/%d", part.Fd()), root, target)
}

// lay binds source over a path in a root directory. The place is made if it is not there, as the
// runtime would.
func lay(source, root, target string) error {
	at, err := openIn(root, target)
	if errors.Is(err, iofs.ErrNotExist) {
		if err := place(source, root, target); err != nil {
			return err
		}
		at, err = openIn(root, target)
	}
	if err != nil {
		return err
	}
	defer at.Close()
	if err := unix.Mount(source, fmt.Sprintf("/proc/self/fd/%d", at.Fd()), "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("show %s at %s: %w", source, target, err)
	}
	return nil
}

// place makes an empty directory, or an empty file when source is none.
func place(source, root, target string) error {
	info, err := os.Stat(source)
	if err != nil {
		return fault.Invalid("the mount at %s cannot be shown: %w", target, err)
	}
	in, err := os.OpenRoot(root)
	if err != nil {
		return fmt.Errorf("make the place of a mount: %w", err)
	}
	defer in.Close()
	target = strings.TrimPrefix(path.Clean("/"+target), "/")
	if info.IsDir() {
		err = in.MkdirAll(target, 0o755)
	} else if err = in.MkdirAll(path.Dir(target), 0o755); err == nil {
		err = in.WriteFile(target, nil, 0o644)
	}
	if err != nil {
		return fmt.Errorf("make the place of a mount at %s: %w", target, err)
	}
	return nil
}

// Kinds of changes, as Docker counts them.
const (
	Modified = iota
	Added
	Deleted
)

// A Change is one that a container made to the files of its image.
type Change struct {
	Path string
	Kind int
}

// Changes lists them, parents first.
func (e *Engine) Changes(ctx context.Context, id string) ([]Change, error) {
	var all []Change
	err := e.changes(ctx, id, func(kind fs.ChangeKind, path string, _ os.FileInfo, err error) error {
		switch kind {
		case fs.ChangeKindAdd:
			all = append(all, Change{path, Added})
		case fs.ChangeKindModify:
			all = append(all, Change{path, Modified})
		case fs.ChangeKindDelete:
			all = append(all, Change{path, Deleted})
		}
		return err
	})
	return all, err
}

// changes compares a container's files with its image's. What each container needs to have
// something mounted at is none of its changes.
func (e *Engine) changes(ctx context.Context, id string, fn fs.ChangeFunc) (err error) {
	c, free, err := e.take(ctx, id)
	if err != nil {
		return err
	}
	defer free()
	if err := e.mount(ctx, c); err != nil {
		return err
	}
	r := c.now()
	base, release, err := e.show(ctx, r.Chain)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	points := mountPoints()
	var pending []pendingChange // directories, until something in them is a change
	each := func(kind fs.ChangeKind, path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		for len(pending) > 0 && !strings.HasPrefix(path, pending[len(pending)-1].path+"/") {
			pending = pending[:len(pending)-1]
		}
		made := points[path]
		if kind == fs.ChangeKindAdd && made && emptyAt(filepath.Join(e.home(r.ID), "rootfs", path), info) {
			return nil
		}
		if info != nil && info.IsDir() && (kind == fs.ChangeKindModify && sameDir(filepath.Join(base, path), info) || kind == fs.ChangeKindAdd && made) {
			pending = append(pending, pendingChange{kind, path, info})
			return nil
		}
		for _, p := range pending {
			if err := fn(p.kind, p.path, p.info, nil); err != nil {
				return err
			}
		}
		pending = nil
		return fn(kind, path, info, nil)
	}
	if e.store.Snapshotter == store.Native {
		return fs.Changes(ctx, base, filepath.Join(e.home(r.ID), "rootfs"), each)
	}
	return fs.DiffDirChanges(ctx, base, filepath.Join(e.home(r.ID), "upper"), fs.DiffSourceOverlayFS, each)
}

type pendingChange struct {
	kind fs.ChangeKind
	path string
	info os.FileInfo
}

// mountPoints are the places that each container needs, with the directories that they are in.
func mountPoints() map[string]bool {
	points := map[string]bool{}
	for _, target := range []string{"/proc", "/sys", "/dev/console", "/dev/pts", "/dev/shm", "/dev/mqueue", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"} {
		for ; target != "/"; target = path.Dir(target) {
			points[target] = true
		}
	}
	return points
}

// emptyAt says whether there is nothing in a file or a directory.
func emptyAt(path string, info os.FileInfo) bool {
	if !info.IsDir() {
		return info.Size() == 0
	}
	entries, err := os.ReadDir(path)
	return err == nil && len(entries) == 0
}

// sameDir says whether a directory is as it was, but for what is in it.
func sameDir(before string, now os.FileInfo) bool {
	old, err := os.Lstat(before)
	if err != nil || old.Mode() != now.Mode() {
		return false
	}
	a, ok := old.Sys().(*syscall.Stat_t)
	b, known := now.Sys().(*syscall.Stat_t)
	return ok && known && a.Uid == b.Uid && a.Gid == b.Gid
}

// show mounts layers where a reader can compare with them.
func (e *Engine) show(ctx context.Context, chain string) (dir string, release func() error, err error) {
	if err := os.MkdirAll(e.path("run", "mounts"), 0o700); err != nil {
		return "", nil, fmt.Errorf("show an image: %w", err)
	}
	if dir, err = os.MkdirTemp(e.path("run", "mounts"), "image"); err != nil {
		return "", nil, fmt.Errorf("show an image: %w", err)
	}
	if err := e.store.Show(ctx, chain, dir); err != nil {
		return "", nil, errors.Join(err, os.Remove(dir))
	}
	return dir, func() error {
		if err := store.Unmount(dir); err != nil {
			return err
		}
		return os.Remove(dir)
	}, nil
}

// Size is how much a container wrote, and that together with its image, in bytes.
func (e *Engine) Size(ctx context.Context, id string) (written, all int64, err error) {
	c, err := e.find(id)
	if err != nil {
		return 0, 0, err
	}
	dir := "upper"
	if e.store.Snapshotter == store.Native {
		dir = "rootfs"
	}
	usage, err := fs.DiskUsage(ctx, filepath.Join(e.home(c.ID), dir))
	if err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return 0, 0, fmt.Errorf("measure container %s: %w", c.now().Name, err)
	}
	all = usage.Size
	if i, err := e.images.Image(ctx, c.Image); err == nil {
		all += i.Size
	}
	return usage.Size, all, nil
}

// Export writes the files of a container, without its mounts, as a tar archive.
func (e *Engine) Export(ctx context.Context, id string, w io.Writer) error {
	c, free, err := e.take(ctx, id)
	if err != nil {
		return err
	}
	err = e.mount(ctx, c)
	free()
	if err != nil {
		return err
	}
	if err := archive.WriteDiff(ctx, w, "", filepath.Join(e.home(c.ID), "rootfs")); err != nil {
		return fmt.Errorf("export container %s: %w", c.now().Name, err)
	}
	e.report(c.now(), "export", "")
	return nil
}

// CommitOptions say what image a container becomes.
type CommitOptions struct {
	Ref     string // empty: it gets no name
	Author  string
	Message string
	Pause   bool        // while its files are read
	Config  ImageConfig // laid over the container's own
	Changes []string    // instructions as of a Dockerfile, laid over that
}

// Commit makes an image of a container: its image with what it changed as a further layer.
func (e *Engine) Commit(ctx context.Context, id string, o CommitOptions) (_ Image, err error) {
	now, err := e.Container(ctx, id)
	if err != nil {
		return Image{}, err
	}
	if o.Pause && now.State == Running {
		if err := e.Pause(ctx, now.ID); err != nil {
			return Image{}, err
		}
		defer func() { err = errors.Join(err, e.Resume(context.WithoutCancel(ctx), now.ID)) }()
	}
	cfg := configOf(now, o.Config)
	cfg.Author, cfg.Created = o.Author, time.Now().UTC()
	if err := ApplyChanges(&cfg, o.Changes); err != nil {
		return Image{}, err
	}
	layer := Layer{By: strings.Join(now.Args, " "), Comment: o.Message, Open: func() (io.ReadCloser, error) { return e.layer(ctx, now.ID), nil }}
	i, err := e.images.Make(ctx, image.Recipe{Name: o.Ref, Base: now.Image, Layers: []Layer{layer}, Config: cfg})
	if fault.Is(err, fault.KindNotFound) {
		return Image{}, fault.Conflict("the image of container %s is not here any more", now.Name).Try("export it, and import that")
	}
	if err != nil {
		return Image{}, err
	}
	if c, err := e.find(now.ID); err == nil {
		e.report(c.now(), "commit", "", "comment", o.Message, "imageID", i.ID, "imageRef", o.Ref)
	}
	return i, nil
}

// configOf is what was said of a container, where over says nothing else.
func configOf(c Container, over ImageConfig) ImageConfig {
	if over.Entrypoint == nil && over.Command == nil {
		over.Entrypoint, over.Command = c.Spec.Entrypoint, c.Spec.Command
	}
	over.Env = spec.MergeEnv(c.Env, over.Env)
	over.WorkDir, over.User = cmp.Or(over.WorkDir, c.WorkDir), cmp.Or(over.User, c.User)
	over.StopSignal = cmp.Or(over.StopSignal, c.Spec.StopSignal)
	if over.Labels == nil {
		over.Labels = c.Spec.Labels
	}
	if over.Health == nil {
		over.Health = c.Spec.Health
	}
	return over
}

// layer reads what a container changed as the tar archive of a layer.
func (e *Engine) layer(ctx context.Context, id string) io.ReadCloser {
	r, w := io.Pipe()
	go func() {
		c, err := e.find(id)
		if err == nil {
			out := archive.NewChangeWriter(w, filepath.Join(e.home(c.ID), "rootfs"))
			err = errors.Join(e.changes(ctx, id, out.HandleChange), out.Close())
		}
		w.CloseWithError(err)
	}()
	return r
}
