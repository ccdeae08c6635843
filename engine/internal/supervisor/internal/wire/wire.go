// Package wire is the protocol between the engine and sampan-init.
//
// A call is one connection to the unix socket "sock" in the supervisor's directory. Both
// sides send frames: one byte of kind, four bytes of length (big-endian), the payload.
// The caller sends a Call, the other side one Answer; after that follow, by the operation,
// frames of streams, events and at the end an Exit. Closing the connection ends the call.
//
// Payloads other than the bytes of streams are JSON. A side ignores fields that it does not
// know and treats missing ones as zero, so that servers and running sampan-inits of different
// age understand each other; an operation that is not known is answered by an Unknown
// failure. Version grows only when that is not enough.
package wire

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"sampan.dev/sampan/internal/fault"
)

// Version of the protocol; see the package comment.
const Version = 1

// Kind of a frame.
type Kind byte

const (
	KindCall Kind = iota + 1
	KindAnswer
	KindStdin
	KindStdinEnd
	KindStdout
	KindStderr
	KindResize
	KindEvent
	KindExit
	kindEnd
)

// Limits of a payload: a call carries a configuration and a filter, a stream moves in pieces.
const (
	MaxCall  = 8 << 20
	MaxPiece = 64 << 10
)

var errFrame = errors.New("the other side does not speak the protocol of sampan-init")

// limit of the payload of a kind.
func limit(k Kind) int {
	switch k {
	case KindStdin, KindStdout, KindStderr, KindResize:
		return MaxPiece
	case KindStdinEnd:
		return 0
	}
	return MaxCall
}

// Read reads one frame. The payload is valid until buf is used again; a larger one is
// allocated. The error is io.EOF only between frames.
func Read(r io.Reader, buf []byte) (Kind, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	kind, size := Kind(head[0]), binary.BigEndian.Uint32(head[1:])
	if kind == 0 || kind >= kindEnd || uint64(size) > uint64(limit(kind)) {
		return 0, nil, errFrame
	}
	if int(size) > cap(buf) {
		buf = make([]byte, size)
	}
	buf = buf[:size]
	if _, err := io.ReadFull(r, buf); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	return kind, buf, nil
}

// Write sends one frame in one write. Callers that share w take turns.
func Write(w io.Writer, k Kind, payload []byte) error {
	if len(payload) > limit(k) {
		return fault.TooLarge("a message of %d bytes to sampan-init is too large", len(payload))
	}
	var head [5]byte
	head[0] = byte(k)
	binary.BigEndian.PutUint32(head[1:], uint32(len(payload)))
	if c, ok := w.(*net.UnixConn); ok {
		parts := net.Buffers{head[:], payload}
		_, err := parts.WriteTo(c)
		return err
	}
	_, err := w.Write(append(head[:], payload...))
	return err
}

// WriteJSON sends v as one frame.
func WriteJSON(w io.Writer, k Kind, v any) error {
	payload, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode a message to sampan-init: %w", err)
	}
	return Write(w, k, payload)
}

// A Call asks for an operation on a container.
type Call struct {
	Version int             `json:"version"`
	Op      string          `json:"op"`
	ID      string          `json:"id,omitempty"`
	Args    json.RawMessage `json:"args,omitempty"`
}

// Operations.
const (
	OpHello    = "hello"
	OpShutdown = "shutdown"
	OpCreate   = "create"
	OpPrepare  = "prepare"
	OpStart    = "start"
	OpStop     = "stop"
	OpKill     = "kill"
	OpDelete   = "delete"
	OpWait     = "wait"
	OpExec     = "exec"
	OpAttach   = "attach"
	OpResize   = "resize"
	OpPause    = "pause"
	OpResume   = "resume"
	OpStats    = "stats"
	OpStatus   = "status"
	OpList     = "list"
	OpUpdate   = "update"
	OpEvents   = "events"
	OpPids     = "pids"
)

// Stop is the argument of OpStop.
type Stop struct {
	Signal int           `json:"signal,omitempty"`
	Grace  time.Duration `json:"grace,omitempty"`
}

// An Answer has a value or a failure.
type Answer struct {
	Failure *Failure        `json:"failure,omitempty"`
	Value   json.RawMessage `json:"value,omitempty"`
}

// A Failure is an error on its way. Kind is empty for one that is not the user's.
type Failure struct {
	Kind    string `json:"kind,omitempty"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

// Unknown is the kind of failure that answers an operation of a newer version.
const Unknown = "unknown"

// kinds have names on the wire, for their numbers may change.
func kinds() map[string]fault.Kind {
	return map[string]fault.Kind{
		"invalid": fault.KindInvalid, "not-found": fault.KindNotFound, "conflict": fault.KindConflict,
		"full": fault.KindFull, "too-large": fault.KindTooLarge, "forbidden": fault.KindForbidden,
		Unknown: fault.KindUnavailable,
	}
}

// FailureOf writes err for the other side.
func FailureOf(err error) *Failure {
	f, ok := fault.Of(err)
	if !ok {
		return &Failure{Message: err.Error()}
	}
	for name, kind := range kinds() {
		if kind == f.Kind && name != Unknown {
			return &Failure{Kind: name, Message: f.Message, Hint: f.Hint}
		}
	}
	return &Failure{Message: f.Error()}
}

// Err is the failure as an error again.
func (f *Failure) Err() error {
	kind, ok := kinds()[f.Kind]
	if !ok {
		return errors.New(f.Message)
	}
	return &fault.Fault{Kind: kind, Message: f.Message, Hint: f.Hint}
}

// socket calls use with a path of the socket that is short enough: the kernel allows 107 bytes.
func socket[T any](dir string, use func(path string) (T, error)) (T, error) {
	d, err := os.Open(dir)
	if err != nil {
		var none T
		return none, err
	}
	defer d.Close()
	return use(filepath.Join("/proc/self/fd", strconv.Itoa(int(d.Fd())), "sock"))
}

// Dial connects to the sampan-init of dir.
func Dial(dir string) (*net.UnixConn, error) {
	return socket(dir, func(path string) (*net.UnixConn, error) {
		return net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	})
}

// Listen takes the socket of dir over; the caller holds the directory's lock.
func Listen(dir string) (*net.UnixListener, error) {
	if err := os.Remove(filepath.Join(dir, "sock")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return socket(dir, func(path string) (*net.UnixListener, error) {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err == nil {
			l.SetUnlinkOnClose(false)
			err = os.Chmod(path, 0o600)
		}
		return l, err
	})
}

// Hello is the answer to OpHello.
type Hello struct {
	Version int    `json:"version"`
	Pid     int    `json:"pid"`
	Program string `json:"program,omitempty"` // the file it was started from
}
