package engine

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/containerd/containerd/v2/client"
)

var errPending = errors.New("the engine cannot do this yet")

func Open(ctx context.Context, cfg Config) (*Engine, error) { return nil, errPending }
func (e *Engine) Run(ctx context.Context) error             { return errPending }
func (e *Engine) Close() error                              { return errPending }
func Probe(ctx context.Context) []Check                     { return nil }
func (e *Engine) Create(ctx context.Context, spec Spec) (Container, error) {
	return Container{}, errPending
}
func (e *Engine) Start(ctx context.Context, id string) error                     { return errPending }
func (e *Engine) Stop(ctx context.Context, id string, grace time.Duration) error { return errPending }
func (e *Engine) Kill(ctx context.Context, id string, signal string) error       { return errPending }
func (e *Engine) Remove(ctx context.Context, id string, force bool) error        { return errPending }
func (e *Engine) Wait(ctx context.Context, id string) (Exit, error)              { return Exit{}, errPending }
func (e *Engine) Pause(ctx context.Context, id string) error                     { return errPending }
func (e *Engine) Resume(ctx context.Context, id string) error                    { return errPending }
func (e *Engine) Resize(ctx context.Context, id string, size Size) error         { return errPending }
func (e *Engine) Container(ctx context.Context, id string) (Container, error) {
	return Container{}, errPending
}

// Containers lists those that have all of the labels.
func (e *Engine) Containers(ctx context.Context, labels map[string]string) ([]Container, error) {
	return nil, errPending
}
func (e *Engine) Attach(ctx context.Context, id string, s Streams) error { return errPending }
func (e *Engine) Exec(ctx context.Context, id string, spec ExecSpec, s Streams) (Exit, error) {
	return Exit{}, errPending
}
func (e *Engine) Logs(ctx context.Context, id string, o LogOptions, fn func(Line) error) error {
	return errPending
}
func (e *Engine) Stats(ctx context.Context, id string) (Stats, error)      { return Stats{}, errPending }
func (e *Engine) Events(ctx context.Context, fn func(Event) error) error   { return errPending }
func (e *Engine) Image(ctx context.Context, ref string) (Image, error)     { return Image{}, errPending }
func (e *Engine) Images(ctx context.Context) ([]Image, error)              { return nil, errPending }
func (e *Engine) Import(ctx context.Context, r io.Reader) ([]Image, error) { return nil, errPending }
func (e *Engine) Pull(ctx context.Context, ref string, progress func(Progress)) (Image, error) {
	return Image{}, errPending
}
func (e *Engine) RemoveImage(ctx context.Context, ref string) error { return errPending }
func (e *Engine) Tag(ctx context.Context, ref, name string) error   { return errPending }

// Assemble makes an image of base, "" for an empty one, and layers, and names it ref.
func (e *Engine) Assemble(ctx context.Context, ref, base string, layers []Layer, cfg ImageConfig) (Image, error) {
	return Image{}, errPending
}

// Mount shows an image's files in a directory, read-only, until release is called.
func (e *Engine) Mount(ctx context.Context, ref string) (dir string, release func() error, err error) {
	return "", nil, errPending
}
func (e *Engine) CreateNetwork(ctx context.Context, spec NetworkSpec) (Network, error) {
	return Network{}, errPending
}
func (e *Engine) RemoveNetwork(ctx context.Context, name string) error { return errPending }
func (e *Engine) Networks(ctx context.Context) ([]Network, error)      { return nil, errPending }
func (e *Engine) CreateVolume(ctx context.Context, name string, labels map[string]string) (VolumeInfo, error) {
	return VolumeInfo{}, errPending
}
func (e *Engine) RemoveVolume(ctx context.Context, name string) error { return errPending }
func (e *Engine) Volumes(ctx context.Context) ([]VolumeInfo, error)   { return nil, errPending }

// Containerd is a client of the stores, whose calls are in Namespace unless they say otherwise.
func (e *Engine) Containerd() *client.Client { return nil }

// ContainerdOpts make further clients of the same stores, as BuildKit's worker does.
func (e *Engine) ContainerdOpts() []client.Opt { return nil }

// Snapshotter is the name of the one that images are unpacked with.
func (e *Engine) Snapshotter() string { return "" }
