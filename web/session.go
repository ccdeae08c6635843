package web

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"
)

// A Session is a few strings that a browser keeps for the site between requests, sealed in
// a cookie: the browser can neither read nor change them. Keep little in it; a cookie ends
// at four kilobytes. A change is sent with the header of the answer, so it must be made
// before the first byte of the answer is written. A Session belongs to one request.
type Session struct {
	start   time.Time
	values  map[string]string
	changed bool
	found   bool // the request had a cookie, good or not
}

// SessionOf is the session of a request that an App serves. It panics for any other.
func SessionOf(r *http.Request) *Session {
	st := stateOf(r)
	if st == nil {
		panic("web: SessionOf needs a request that an App serves")
	}
	if st.session == nil {
		st.session = st.openSession()
	}
	return st.session
}

// Get is the value of key, or "".
func (s *Session) Get(key string) string { return s.values[key] }

// Set gives key a value.
func (s *Session) Set(key, value string) {
	if old, ok := s.values[key]; ok && old == value {
		return
	}
	s.values[key] = value
	s.changed = true
}

// Delete removes key.
func (s *Session) Delete(key string) {
	if _, ok := s.values[key]; ok {
		delete(s.values, key)
		s.changed = true
	}
}

// Clear removes everything, and with it the cookie.
func (s *Session) Clear() {
	clear(s.values)
	s.changed = true
}

// Rotate seals what is kept anew, as a session that begins now. Call it when a person signs in or out.
func (s *Session) Rotate() {
	s.start = time.Now()
	s.changed = true
}

// cookieName has the prefix that keeps the site's subdomains from setting the cookie, where
// browsers allow it: on TLS.
func (st *state) cookieName() string {
	if st.secure() {
		return "__Host-" + st.core.Cookie
	}
	return st.core.Cookie
}

func (st *state) secure() bool { return st.tls || st.core.Secure }

func (st *state) openSession() *Session {
	fresh := &Session{start: time.Now(), values: map[string]string{}}
	c, err := st.request.Cookie(st.cookieName())
	if err != nil {
		return fresh
	}
	fresh.found = true
	plain, err := st.core.sealer.open(c.Value, st.cookieName())
	if err != nil {
		return fresh // expired key, other site, tampering: all start anew
	}
	s, err := decodeSession(plain)
	if err != nil || time.Since(s.start) > st.core.SessionAge {
		return fresh
	}
	s.found = true
	s.changed = time.Since(s.start) > st.core.SessionAge/4 // one in use does not end
	if s.changed {
		s.start = time.Now()
	}
	return s
}

// commit writes a changed session into the header of the answer.
func (st *state) commit(h http.Header) {
	s := st.session
	if s == nil {
		return
	}
	addVary(h, "Cookie")
	if !s.changed || len(s.values) == 0 && !s.found {
		return
	}
	c := &http.Cookie{Name: st.cookieName(), Path: "/", HttpOnly: true, Secure: st.secure(), SameSite: http.SameSiteLaxMode,
		MaxAge: int(st.core.SessionAge / time.Second)}
	if len(s.values) == 0 {
		c.MaxAge = -1
	} else {
		c.Value = st.core.sealer.seal(encodeSession(s), c.Name)
	}
	if len(c.Value) > maxCookie {
		st.core.Log.Error("session is too large for a cookie and was not kept", "id", st.id, "bytes", len(c.Value))
		return
	}
	h.Add("Set-Cookie", c.String())
}

// maxCookie leaves room for name and attributes in the 4096 bytes that browsers keep (RFC 6265 §6.1).
const maxCookie = 3900

// encodeSession writes the start in seconds and then each key and value with its length.
func encodeSession(s *Session) []byte {
	b := binary.AppendVarint(nil, s.start.Unix())
	for _, k := range slices.Sorted(maps.Keys(s.values)) {
		for _, str := range [...]string{k, s.values[k]} {
			b = binary.AppendUvarint(b, uint64(len(str)))
			b = append(b, str...)
		}
	}
	return b
}

func decodeSession(b []byte) (*Session, error) {
	start, n := binary.Varint(b)
	if n <= 0 {
		return nil, errors.New("session has no start")
	}
	b = b[n:]
	s := &Session{start: time.Unix(start, 0), values: map[string]string{}}
	for len(b) > 0 {
		var k, v string
		var err error
		if k, b, err = cutString(b); err != nil {
			return nil, err
		}
		if v, b, err = cutString(b); err != nil {
			return nil, err
		}
		s.values[k] = v
	}
	return s, nil
}

func cutString(b []byte) (string, []byte, error) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return "", nil, errors.New("session is cut short")
	}
	b = b[n:]
	return string(b[:size]), b[size:], nil
}

// sealer seals with its first key and opens with any, so that a key can be replaced while
// the cookies of the old one live on.
type sealer []cipher.AEAD

func newSealer(keys [][]byte) sealer {
	var s sealer
	for i, key := range keys {
		if len(key) != 32 {
			panic(fmt.Sprintf("web: session key %d has %d bytes; it needs 32", i, len(key)))
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			panic(err)
		}
		gcm, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			panic(err)
		}
		s = append(s, gcm)
	}
	return s
}

// seal encrypts plain for a cookie of that name: it does not open as another.
func (s sealer) seal(plain []byte, name string) string {
	return base64.RawURLEncoding.EncodeToString(s[0].Seal(nil, nil, plain, []byte(name)))
}

func (s sealer) open(value, name string) ([]byte, error) {
	sealed, err := base64.RawURLEncoding.DecodeString(value)
	if err != nil {
		return nil, err
	}
	for _, key := range s {
		var plain []byte
		if plain, err = key.Open(nil, nil, sealed, []byte(name)); err == nil {
			return plain, nil
		}
	}
	return nil, err
}
