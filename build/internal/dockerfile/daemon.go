package dockerfile

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter"
	"github.com/moby/buildkit/frontend"
	"github.com/moby/buildkit/frontend/gateway"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/worker"
	"google.golang.org/grpc/test/bufconn"

	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/internal/fault"
)

// A Daemon is BuildKit as Docker's clients reach it: they bring the files, the secrets and the
// names of the images themselves, and see each other's cache. It opens with its first client.
type Daemon struct {
	builder *Builder
	dir     string

	mu       sync.Mutex
	open     *connection
	sessions *session.Manager
	clients  *visitors
	inside   *bufconn.Listener // for builds that this process asks for
}

// Daemon keeps what its clients built in dir.
func (b *Builder) Daemon(dir string) *Daemon { return &Daemon{builder: b, dir: dir} }

// ready opens BuildKit.
func (d *Daemon) ready(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open != nil {
		return nil
	}
	if d.builder.engine == nil {
		return fault.Unavailable("a Dockerfile needs containers, which cannot run on this machine").Try("see `sampan doctor` for what is missing")
	}
	w, err := d.builder.open(ctx)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return fmt.Errorf("open BuildKit's cache: %w", err)
	}
	c := &connection{served: make(chan error, 2)}
	c.controller, d.sessions, err = controllerOf(context.WithoutCancel(ctx), dockerWorker{w, d.builder.engine}, d.dir, gatewayFrontend)
	if err != nil {
		return fmt.Errorf("open BuildKit's cache: %w", err)
	}
	d.clients, d.inside = newVisitors(), bufconn.Listen(1<<20)
	c.serve(d.clients)
	go func() { _ = c.server.Serve(d.inside) }() // ends with the server
	d.open = c
	return nil
}

// gatewayFrontend runs frontends that are images, as a "# syntax=" line names them.
func gatewayFrontend(infos worker.Infos) (map[string]frontend.Frontend, error) {
	g, err := gateway.NewGatewayFrontend(infos, nil)
	return map[string]frontend.Frontend{"gateway.v0": g}, err
}

// Close ends it.
func (d *Daemon) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open != nil {
		d.open.close()
		d.open = nil
	}
}

// GRPC speaks BuildKit's own protocol on a connection, until it ends.
func (d *Daemon) GRPC(ctx context.Context, conn net.Conn) error {
	if err := d.ready(ctx); err != nil {
		return errors.Join(err, conn.Close())
	}
	return d.clients.visit(ctx, conn)
}

// Session lets builds reach back to a client. It takes the connection of r.
func (d *Daemon) Session(w http.ResponseWriter, r *http.Request) error {
	if err := d.ready(r.Context()); err != nil {
		return err
	}
	return d.sessions.HandleHTTPRequest(r.Context(), w, r)
}

// Client is one for this process.
func (d *Daemon) Client(ctx context.Context) (*client.Client, error) {
	if err := d.ready(ctx); err != nil {
		return nil, err
	}
	dial := func(ctx context.Context, _ string) (net.Conn, error) { return d.inside.DialContext(ctx) }
	return client.New(ctx, "tcp://buildkit", client.WithContextDialer(dial))
}

// visitors are connections that come from elsewhere, as a listener.
type visitors struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newVisitors() *visitors {
	return &visitors{conns: make(chan net.Conn), done: make(chan struct{})}
}

// visit hands a connection on and waits for its end.
func (v *visitors) visit(ctx context.Context, conn net.Conn) error {
	over := &visit{Conn: conn, over: make(chan struct{})}
	select {
	case v.conns <- over:
	case <-v.done:
		return errors.Join(net.ErrClosed, conn.Close())
	}
	select {
	case <-over.over:
	case <-ctx.Done():
		over.Close()
	}
	return nil
}

// Accept implements [net.Listener].
func (v *visitors) Accept() (net.Conn, error) {
	select {
	case c := <-v.conns:
		return c, nil
	case <-v.done:
		return nil, net.ErrClosed
	}
}

// Close implements [net.Listener].
func (v *visitors) Close() error {
	v.once.Do(func() { close(v.done) })
	return nil
}

// Addr implements [net.Listener].
func (v *visitors) Addr() net.Addr { return &net.UnixAddr{Name: "docker", Net: "unix"} }

type visit struct {
	net.Conn
	once sync.Once
	over chan struct{}
}

func (v *visit) Close() error {
	v.once.Do(func() { close(v.over) })
	return v.Conn.Close()
}

// A dockerWorker has the exporter that Docker's clients ask for.
type dockerWorker struct {
	*sharedWorker
	engine *engine.Engine
}

// moby is the type of exporter that puts the image into the engine.
const moby = "moby"

func (w dockerWorker) Exporter(name string, sm *session.Manager) (exporter.Exporter, error) {
	if name != moby && name != client.ExporterImage {
		return w.sharedWorker.Exporter(name, sm)
	}
	inner, err := w.sharedWorker.Exporter(client.ExporterImage, sm)
	return imageExporter{inner, w.engine}, err
}

// An imageExporter lets BuildKit store the image and gives it to the engine, which keeps what
// had its names before.
type imageExporter struct {
	exporter.Exporter
	engine *engine.Engine
}

// unnamed is the name by which BuildKit knows an image until it has its own.
const unnamed = "sampan.dev/built"

func (x imageExporter) Resolve(ctx context.Context, id int, attrs map[string]string) (exporter.ExporterInstance, error) {
	own := map[string]string{}
	var names []string
	for key, value := range attrs {
		switch key {
		case "name":
			names = strings.FieldsFunc(value, func(r rune) bool { return r == ',' })
		case "unpack", "store", "dangling-name-prefix", "name-canonical":
		default:
			own[key] = value
		}
	}
	if push := attrs["push"]; push == "true" || push == "1" {
		own["name"] = attrs["name"] // BuildKit pushes with what the client signs in with
	} else {
		own["dangling-name-prefix"] = unnamed
	}
	own["unpack"], own["store"] = "true", "true"
	inner, err := x.Exporter.Resolve(ctx, id, own)
	return exporting{inner, x.engine, names, attrs}, err
}

type exporting struct {
	exporter.ExporterInstance
	engine *engine.Engine
	names  []string
	attrs  map[string]string
}

func (x exporting) Attrs() map[string]string { return x.attrs }

func (x exporting) Export(ctx context.Context, src *exporter.Source, info exporter.ExportBuildInfo) (map[string]string, exporter.FinalizeFunc, exporter.DescriptorReference, error) {
	answer, finalize, ref, err := x.ExporterInstance.Export(ctx, src, info)
	if err != nil {
		return answer, finalize, ref, err
	}
	target := ref.Descriptor()
	_, err = x.engine.Built(ctx, target, x.names)
	if err == nil {
		err = x.engine.Containerd().ImageService().Delete(ctx, unnamed+"@"+target.Digest.String())
		if errdefs.IsNotFound(err) {
			err = nil
		}
	}
	if err != nil {
		return nil, nil, nil, errors.Join(err, ref.Release())
	}
	answer["image.name"] = strings.Join(x.names, ",")
	return answer, finalize, ref, nil
}
