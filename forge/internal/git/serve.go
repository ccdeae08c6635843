package git

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"

	"sampan.dev/sampan/forge/internal/wire"
)

// A Service is a git program that talks to a client.
type Service string

const (
	UploadPack    Service = "git-upload-pack"    // clone and fetch
	ReceivePack   Service = "git-receive-pack"   // push
	UploadArchive Service = "git-upload-archive" // git archive --remote
)

// Streams connect a service to its client.
type Streams struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
}

// ServeOptions say how a client asked.
type ServeOptions struct {
	Protocol  string // the GIT_PROTOCOL that the client sent
	Stateless bool   // one request of the HTTP transport
	Advertise bool   // only the first answer of the HTTP transport
}

// Serve runs upload-pack or upload-archive for a client, until it is served or ctx ends.
// ReceivePack is not served by git: see package push.
func (r Repo) Serve(ctx context.Context, service Service, s Streams, o ServeOptions) error {
	if err := take(ctx, r.g.serve); err != nil {
		return err
	}
	defer func() { <-r.g.serve }()
	ctx, cancel := context.WithTimeout(ctx, r.g.cfg.Timeout)
	defer cancel()
	var args []string
	switch service {
	case UploadPack:
		args = []string{"upload-pack", "--strict", "--timeout=" + strconv.Itoa(600)}
		if o.Stateless {
			args = append(args, "--stateless-rpc")
		}
		if o.Advertise {
			args = append(args, "--http-backend-info-refs")
		}
	case UploadArchive:
		args = []string{"upload-archive"}
	default:
		return fmt.Errorf("git does not serve %q", service)
	}
	return r.serveProcess(ctx, append(args, r.dir), s, o.Protocol)
}

func (r Repo) serveProcess(ctx context.Context, args []string, s Streams, protocol string) error {
	if protocol != "" && ValidProtocol(protocol) {
		r = r.With([]string{"GIT_PROTOCOL=" + protocol})
	}
	cmd := r.command(ctx, args)
	errs := &tail{max: maxStderr}
	cmd.Stdout, cmd.Stderr = s.Out, errs
	if s.Err != nil {
		cmd.Stderr = io.MultiWriter(s.Err, errs)
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start git %s: %w", args[0], err)
	}
	// The copy may outlast git while the client keeps its side open; it ends with the
	// stream, which belongs to the caller.
	go func() {
		io.Copy(stdin, s.In)
		stdin.Close()
	}()
	return failure(ctx, args[0], cmd.Wait(), errs)
}

// ValidProtocol checks a GIT_PROTOCOL: key=value pairs between colons, and nothing else.
func ValidProtocol(s string) bool {
	if len(s) > 256 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '=', c == ':', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}

// AdvertisePush is the first answer to a client that wants to push: what is here, and
// what we can do.
func (r Repo) AdvertisePush(ctx context.Context, agent string) ([]byte, error) {
	refs, err := r.Refs(ctx)
	if err != nil {
		return nil, err
	}
	caps := "\x00report-status delete-refs side-band-64k quiet atomic ofs-delta push-options object-format=sha1 agent=" + agent
	if len(refs) == 0 {
		refs = []Ref{{ID: wire.ZeroID, Name: "capabilities^{}"}}
	}
	var b bytes.Buffer
	for _, ref := range refs {
		b.Write(wire.Append(nil, ref.ID+" "+ref.Name+caps+"\n"))
		caps = ""
	}
	b.Write(wire.AppendFlush(nil))
	return b.Bytes(), nil
}
