// Package password hashes passwords with Argon2id (RFC 9106), at most a few at a time: each
// takes 19 MiB, so a flood of sign-ins must wait and not eat the memory.
package password

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strings"

	"golang.org/x/crypto/argon2"

	"sampan.dev/sampan/internal/fault"
)

// The parameters are the second choice of OWASP's password storage cheat sheet.
const (
	memory   = 19 * 1024 // KiB
	passes   = 2
	threads  = 1
	saltSize = 16
	keySize  = 32

	atOnce  = 2
	waiting = 32
)

// A Hasher bounds the work.
type Hasher struct {
	turn  chan struct{}
	queue chan struct{}
	dummy string
}

// NewHasher is ready for use.
func NewHasher() *Hasher {
	return &Hasher{
		turn:  make(chan struct{}, atOnce),
		queue: make(chan struct{}, waiting),
		dummy: encode(hash{memory: memory, passes: passes, threads: threads, salt: make([]byte, saltSize), key: make([]byte, keySize)}),
	}
}

// Hash makes the string to store.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	done, err := h.wait(ctx)
	if err != nil {
		return "", err
	}
	defer done()
	salt := make([]byte, saltSize)
	rand.Read(salt)
	made := hash{memory: memory, passes: passes, threads: threads, salt: salt}
	made.key = made.derive(password, keySize)
	return encode(made), nil
}

// Verify reports whether the password made the stored string. An empty one, of an account
// that does not exist or has no password, takes as long and is wrong.
func (h *Hasher) Verify(ctx context.Context, stored, password string) (bool, error) {
	t, err := h.Turn(ctx)
	if err != nil {
		return false, err
	}
	defer t.Done()
	return t.Verify(stored, password)
}

// A Turn is leave to hash, now. What is looked up with it is newer than the wait was long.
type Turn struct {
	h    *Hasher
	done func()
}

// Turn waits for one. The caller ends it with Done.
func (h *Hasher) Turn(ctx context.Context) (Turn, error) {
	done, err := h.wait(ctx)
	return Turn{h, done}, err
}

// Done lets the next one hash.
func (t Turn) Done() { t.done() }

// Verify is Hasher.Verify without the wait.
func (t Turn) Verify(stored, password string) (bool, error) {
	unknown := stored == ""
	if unknown {
		stored = t.h.dummy
	}
	want, err := parse(stored)
	if err != nil {
		return false, err
	}
	got := want.derive(password, uint32(len(want.key)))
	return subtle.ConstantTimeCompare(got, want.key) == 1 && !unknown, nil
}

func (h *Hasher) wait(ctx context.Context) (done func(), err error) {
	select {
	case h.queue <- struct{}{}:
	default:
		return nil, fault.Unavailable("too many people are signing in at once").Try("try again in a few seconds")
	}
	select {
	case h.turn <- struct{}{}:
		return func() { <-h.turn; <-h.queue }, nil
	case <-ctx.Done():
		<-h.queue
		return nil, ctx.Err()
	}
}

// A hash is what a stored string says.
type hash struct {
	memory, passes uint32
	threads        uint8
	salt, key      []byte
}

func (h hash) derive(password string, size uint32) []byte {
	return argon2.IDKey([]byte(password), h.salt, h.passes, h.memory, h.threads, size)
}

func encode(h hash) string {
	b64 := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.memory, h.passes, h.threads, b64(h.salt), b64(h.key))
}

// parse reads the usual form, and no parameters that would stall the server.
func parse(stored string) (hash, error) {
	var h hash
	var version, memory, passes, threads int
	parts := strings.Split(stored, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" {
		return h, errors.New("the stored password is not an argon2id hash")
	}
	if _, err := fmt.Sscanf(parts[2]+" "+parts[3], "v=%d m=%d,t=%d,p=%d", &version, &memory, &passes, &threads); err != nil {
		return h, fmt.Errorf("the parameters of a stored password: %w", err)
	}
	salt, err := base64.RawStdEncoding.DecodeString(parts[4])
	key, err2 := base64.RawStdEncoding.DecodeString(parts[5])
	if err := errors.Join(err, err2); err != nil {
		return h, fmt.Errorf("a stored password: %w", err)
	}
	if version != argon2.Version || memory < 8 || memory > 64*1024 || passes < 1 || passes > 16 ||
		threads < 1 || threads > math.MaxUint8 || len(salt) < 8 || len(key) < 16 || len(key) > 64 {
		return h, errors.New("a stored password has parameters out of bounds")
	}
	return hash{uint32(memory), uint32(passes), uint8(threads), salt, key}, nil
}
