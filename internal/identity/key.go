package identity

import (
	"bytes"
	"context"
	"crypto/rsa"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"sampan.dev/sampan/internal/db"
	"sampan.dev/sampan/internal/fault"
)

// A Key is an SSH public key of a person.
type Key struct {
	ID          int64
	Title       string
	Public      string // as in authorized_keys, without a comment
	Fingerprint string // SHA256:…
	Created     time.Time
	Used        time.Time // zero: never; not more exact than an hour
}

const (
	minRSA   = 2048
	maxKey   = 16 << 10 // of a line; a 16384-bit RSA key has 2.8 KB
	keyUsage = "paste one line of a .pub file, such as ~/.ssh/id_ed25519.pub"
)

// ParseKey reads one line of authorized_keys and says what is wrong with it. The comment
// becomes the title.
func ParseKey(line string) (Key, error) {
	line = strings.TrimSpace(line)
	if len(line) > maxKey || strings.ContainsAny(line, "\r\n") {
		return Key{}, fault.Invalid("a public key is one line").Try(keyUsage).On("key")
	}
	if strings.HasPrefix(line, "-----BEGIN") {
		return Key{}, fault.Invalid("this is not a public key").Try(keyUsage + "; never give a private key away").On("key")
	}
	public, comment, options, rest, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil || len(bytes.TrimSpace(rest)) > 0 {
		return Key{}, fault.Invalid("this is not an SSH public key").Try(keyUsage).On("key")
	}
	if len(options) > 0 {
		return Key{}, fault.Invalid("a key with options is not supported").Try("leave out what stands before the kind of the key").On("key")
	}
	if err := strong(public); err != nil {
		return Key{}, err
	}
	return Key{
		Title:       strings.ToValidUTF8(comment, ""),
		Public:      strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public))),
		Fingerprint: ssh.FingerprintSHA256(public),
	}, nil
}

// strong accepts what sshd(8) accepts by default today.
func strong(public ssh.PublicKey) error {
	const remedy = "make one with: ssh-keygen -t ed25519"
	switch public.Type() {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoSKECDSA256:
		return nil
	case ssh.KeyAlgoRSA:
		crypto, ok := public.(ssh.CryptoPublicKey)
		if !ok {
			break
		}
		if key, ok := crypto.CryptoPublicKey().(*rsa.PublicKey); ok && key.N.BitLen() < minRSA {
			return fault.Invalid("this RSA key has %d bits, which is too weak; %d are the least", key.N.BitLen(), minRSA).Try(remedy).On("key")
		}
		return nil
	}
	return fault.Invalid("keys of the kind %.40s are not accepted", public.Type()).Try(remedy).On("key")
}

// AddKey lets who in by SSH. A key belongs to one person.
func (s *Service) AddKey(ctx context.Context, who Who, title, authorizedKey string) (Key, error) {
	if err := who.mustAct(who.ID); err != nil {
		return Key{}, err
	}
	if who.ID == 0 {
		return Key{}, fault.Invalid("a key belongs to a person")
	}
	k, err := ParseKey(authorizedKey)
	if err != nil {
		return Key{}, err
	}
	if title = strings.TrimSpace(title); title != "" {
		k.Title = title
	}
	if k.Title == "" {
		k.Title = k.Fingerprint
	}
	if err := checkText("title", k.Title, 200); err != nil {
		return Key{}, err
	}
	now := db.Now()
	k.Created = now.Time
	err = s.db.Tx(ctx, func(tx *db.Tx) error {
		const insert = `INSERT INTO identity_key (person, title, public, fingerprint, created) VALUES (?, ?, ?, ?, ?) RETURNING id`
		err := tx.QueryRow(ctx, insert, who.ID, k.Title, k.Public, k.Fingerprint, now).Scan(&k.ID)
		if db.Unique(err) {
			return fault.Conflict("this public key is already in use").Try("each key belongs to one person; " + "make another one with: ssh-keygen -t ed25519").On("key")
		}
		if err != nil {
			return fmt.Errorf("add a key: %w", err)
		}
		return s.Audit(ctx, tx, who, "key.add", k.Fingerprint, k.Title)
	})
	if err != nil {
		return Key{}, err
	}
	return k, nil
}

// Keys lists the keys of a person.
func (s *Service) Keys(ctx context.Context, who Who, person int64) ([]Key, error) {
	if err := who.mustAct(person); err != nil {
		return nil, err
	}
	const query = `SELECT id, title, public, fingerprint, created, used FROM identity_key WHERE person = ? ORDER BY id`
	return list(ctx, s.db, "keys", func(row scanner, k *Key) error {
		var created, used db.Time
		err := row.Scan(&k.ID, &k.Title, &k.Public, &k.Fingerprint, &created, &used)
		k.Created, k.Used = created.Time, used.Time
		return err
	}, query, person)
}

// RemoveKey shuts the door again.
func (s *Service) RemoveKey(ctx context.Context, who Who, id int64) error {
	return s.removeOwn(ctx, who, "key", `SELECT person, fingerprint FROM identity_key WHERE id = ?`, `DELETE FROM identity_key WHERE id = ?`, id)
}

// ByKey answers whose key it is, given in the wire format of SSH (RFC 4253 §6.6). The
// caller has checked that the client holds the private part.
func (s *Service) ByKey(ctx context.Context, marshaled []byte) (Who, Key, error) {
	public, err := ssh.ParsePublicKey(marshaled)
	if err != nil {
		return Who{}, Key{}, fault.SignIn("this is not an SSH public key")
	}
	const query = `SELECT k.id, k.title, k.public, k.fingerprint, k.created, k.used, o.id, o.name, p.admin FROM identity_key k
		JOIN identity_person p ON p.id = k.person JOIN identity_owner o ON o.id = p.id WHERE k.fingerprint = ? AND p.active`
	var who Who
	var k Key
	var created, used db.Time
	err = s.db.QueryRow(ctx, query, ssh.FingerprintSHA256(public)).
		Scan(&k.ID, &k.Title, &k.Public, &k.Fingerprint, &created, &used, &who.ID, &who.Name, &who.Admin)
	if db.NotFound(err) {
		return Who{}, Key{}, fault.SignIn("nobody has this key").Try("add it on your settings page")
	}
	if err != nil {
		return Who{}, Key{}, fmt.Errorf("find the key: %w", err)
	}
	k.Created, k.Used = created.Time, used.Time
	return who, k, s.touch(ctx, used, `UPDATE identity_key SET used = ? WHERE id = ?`, k.ID)
}
