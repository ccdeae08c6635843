// Package secret keeps what must not be read off the disk: it seals bytes with a key that
// lives in one file of the data directory.
//
// Sealing is XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha); the context of a secret (such
// as "config of app 7") is authenticated with it, so a sealed value cannot be moved to
// another row. Derived keys are HKDF-SHA256 (RFC 5869). A Box is safe for concurrent use.
package secret

import (
	"bytes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/crypto/chacha20poly1305"
)

const keySize = 32

// A Box seals and unseals with one key.
type Box struct {
	key  []byte
	aead cipher.AEAD
}

// Open reads the key in file and makes it the first time, durably and readable by its
// owner alone.
func Open(file string) (*Box, error) {
	key, err := readKey(file)
	if errors.Is(err, fs.ErrNotExist) {
		key, err = makeKey(file)
	}
	if err != nil {
		return nil, fmt.Errorf("secret key: %w", err)
	}
	return newBox(key)
}

func newBox(key []byte) (*Box, error) {
	sealing, err := hkdf.Key(sha256.New, key, nil, "sampan seal", keySize)
	if err != nil {
		return nil, err
	}
	aead, err := chacha20poly1305.NewX(sealing)
	if err != nil {
		return nil, err
	}
	return &Box{key: key, aead: aead}, nil
}

func readKey(file string) ([]byte, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	key, err := hex.DecodeString(string(bytes.TrimSpace(text)))
	if err != nil || len(key) != keySize {
		return nil, fmt.Errorf("%s does not hold a key of %d hexadecimal bytes; restore it from a backup: without it the secrets in the database are lost", file, keySize)
	}
	return key, nil
}

// makeKey links a finished file into place: of two processes that start at once, one wins
// and both read the same key.
func makeKey(file string) ([]byte, error) {
	key := make([]byte, keySize)
	rand.Read(key)
	dir := filepath.Dir(file)
	tmp, err := os.CreateTemp(dir, ".key-")
	if err != nil {
		return nil, err
	}
	defer os.Remove(tmp.Name())
	if _, err := fmt.Fprintf(tmp, "%x\n", key); err != nil {
		tmp.Close()
		return nil, err
	}
	if err := errors.Join(tmp.Sync(), tmp.Close()); err != nil {
		return nil, err
	}
	if err := os.Link(tmp.Name(), file); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return readKey(file)
		}
		return nil, err
	}
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return key, d.Sync()
}

// Seal encrypts plain for one context.
func (b *Box) Seal(plain []byte, context string) []byte {
	nonce := make([]byte, b.aead.NonceSize(), b.aead.NonceSize()+len(plain)+b.aead.Overhead())
	rand.Read(nonce)
	return b.aead.Seal(nonce, nonce, plain, []byte(context))
}

// Unseal decrypts what Seal made for the same context.
func (b *Box) Unseal(sealed []byte, context string) ([]byte, error) {
	n := b.aead.NonceSize()
	if len(sealed) < n {
		return nil, errors.New("unseal: the value is too short")
	}
	plain, err := b.aead.Open(nil, sealed[:n], sealed[n:], []byte(context))
	if err != nil {
		return nil, fmt.Errorf("unseal %s: it was sealed with another key, or changed", context)
	}
	return plain, nil
}

// Derive makes a 32-byte key for one purpose.
func (b *Box) Derive(purpose string) []byte {
	key, err := hkdf.Key(sha256.New, b.key, nil, "sampan "+purpose, keySize)
	if err != nil {
		panic(err) // only for a length that HKDF cannot make
	}
	return key
}
