package identity

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"sampan.dev/sampan/internal/db"
	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/internal/identity/internal/limit"
)

// SignIn answers a session for a name and a password. From is the address it comes from.
// An unknown name takes as long and says the same as a wrong password.
func (s *Service) SignIn(ctx context.Context, name, password, from string) (session string, err error) {
	who, err := s.Verify(ctx, name, password, from)
	if err != nil {
		return "", err
	}
	return s.newSession(ctx, s.db, who.ID)
}

// Verify is SignIn without a session: for doors that get the password with each request.
func (s *Service) Verify(ctx context.Context, name, password, from string) (Who, error) {
	name = strings.ToLower(strings.TrimSpace(name))
	a, err := s.account(ctx, name)
	if err != nil {
		return Who{}, err
	}
	if a.active && s.proofs.holds(a.who.ID, a.password, password) {
		return a.who, nil
	}
	ok, err := s.tryPassword(ctx, name, from, a, password)
	if err != nil {
		return Who{}, err
	}
	if !ok || !a.active {
		s.log.Info("a sign-in failed", "name", clip(name), "from", from)
		return Who{}, wrongPassword()
	}
	return a.who, nil
}

// tryPassword uses up a chance only for a wrong password. Of many requests at once with
// the right one, the first is checked and the others believe it.
func (s *Service) tryPassword(ctx context.Context, name, from string, a account, password string) (bool, error) {
	chances := s.chances(name, from)
	if err := chances.wait(); err != nil {
		return false, err
	}
	turn, err := s.passwords.Turn(ctx)
	if err != nil {
		return false, err
	}
	defer turn.Done()
	if s.proofs.holds(a.who.ID, a.password, password) {
		return true, nil
	}
	if err := chances.take(); err != nil {
		return false, err
	}
	ok, err := turn.Verify(a.password, clip(password))
	if err != nil {
		chances.refund()
		return false, fmt.Errorf("sign in: %w", err)
	}
	ok = ok && len(password) <= maxPassword
	if ok {
		chances.refund()
		s.proofs.keep(a.who.ID, a.password, password)
	}
	return ok, nil
}

func wrongPassword() error { return fault.SignIn("the name or the password is wrong").On("password") }

// clip keeps hostile input from costing more than a long password does.
func clip(s string) string { return s[:min(len(s), maxPassword)] }

type account struct {
	who      Who
	password string
	active   bool
}

// account is empty when there is none: its password is then wrong.
func (s *Service) account(ctx context.Context, name string) (a account, err error) {
	const query = `SELECT p.id, o.name, p.admin, p.active, p.password
		FROM identity_person p JOIN identity_owner o ON o.id = p.id WHERE o.name = ?`
	err = s.db.QueryRow(ctx, query, name).Scan(&a.who.ID, &a.who.Name, &a.who.Admin, &a.active, &a.password)
	if err != nil && !db.NotFound(err) {
		return account{}, fmt.Errorf("sign in: %w", err)
	}
	return a, nil
}

// chances are what one attempt to sign in uses up, unless it succeeds.
type chances []chance

type chance struct {
	limiter *limit.Limiter
	key     string
}

func (s *Service) chances(name, from string) chances {
	name, from = clip(name), network(from)
	return chances{{s.byBoth, name + " " + from}, {s.byAddress, from}, {s.byName, name}}
}

// wait refuses an attempt that has no chance, before it costs anything.
func (c chances) wait() error {
	for _, one := range c {
		if wait := one.limiter.Wait(one.key); wait > 0 {
			return tooMany(wait)
		}
	}
	return nil
}

func (c chances) take() error {
	for i, one := range c {
		if wait := one.limiter.Take(one.key); wait > 0 {
			c[:i].refund()
			return tooMany(wait)
		}
	}
	return nil
}

func tooMany(wait time.Duration) error {
	return fault.TooMany("too many failed sign-ins").Try("try again in %v", max(wait, time.Second).Round(time.Second))
}

func (c chances) refund() {
	for _, one := range c {
		one.limiter.Refund(one.key)
	}
}

// network is what one customer of a provider has: an IPv4 address or an IPv6 /64.
func network(from string) string {
	if ap, err := netip.ParseAddrPort(from); err == nil {
		from = ap.Addr().String()
	}
	addr, err := netip.ParseAddr(from)
	if err != nil {
		return clip(from)
	}
	addr = addr.Unmap().WithZone("")
	if addr.Is6() {
		prefix, err := addr.Prefix(64)
		if err == nil {
			return prefix.String()
		}
	}
	return addr.String()
}

const (
	proofLife = 5 * time.Minute
	maxProofs = 1000
)

// proofs remembers for a few minutes that a password was right: a git push over HTTP sends
// it three times, and each check would cost 19 MiB. A changed password has another hash
// and is not found.
type proofs struct {
	key []byte

	mu   sync.Mutex
	ends map[[sha256.Size]byte]time.Time
}

func newProofs() *proofs {
	key := make([]byte, 32)
	rand.Read(key)
	return &proofs{key: key, ends: map[[sha256.Size]byte]time.Time{}}
}

func (p *proofs) mark(person int64, hash, password string) [sha256.Size]byte {
	mac := hmac.New(sha256.New, p.key)
	fmt.Fprintf(mac, "%d %q %q", person, hash, password)
	return [sha256.Size]byte(mac.Sum(nil))
}

func (p *proofs) holds(person int64, hash, password string) bool {
	mark := p.mark(person, hash, clip(password))
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Now().Before(p.ends[mark]) && len(password) <= maxPassword
}

func (p *proofs) keep(person int64, hash, password string) {
	mark := p.mark(person, hash, password)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.ends) >= maxProofs {
		clear(p.ends)
	}
	p.ends[mark] = time.Now().Add(proofLife)
}
