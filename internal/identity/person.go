package identity

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"sampan.dev/sampan/internal/db"
	"sampan.dev/sampan/internal/fault"
)

// A Person is somebody with an account.
type Person struct {
	ID       int64
	Name     string
	FullName string
	Email    string // empty for those who may not know it
	Admin    bool
	Active   bool
	Lang     string // empty: as the browser says
	Theme    string
	Created  time.Time
}

// NewPerson is what an account is made from. Without a Password there is no sign-in by
// password.
type NewPerson struct {
	Name     string
	FullName string
	Email    string
	Password string
	Admin    bool
	Lang     string
}

const (
	minPassword = 8
	maxPassword = 256 // bytes; hashing more would serve nobody
)

// common are passwords that everybody tries first.
var common = [...]string{
	"12345678", "123456789", "1234567890", "11111111", "00000000", "87654321", "password", "password1", "passw0rd",
	"qwertyui", "qwertyuiop", "iloveyou", "sunshine", "princess", "football", "baseball", "trustno1", "superman",
	"letmein1", "welcome1", "changeme", "1q2w3e4r", "abcd1234", "88888888", "66666666", "a1234567", "woaini1314",
}

func checkPassword(name, password string) error {
	switch {
	case len(password) < minPassword:
		return fault.Invalid("a password has at least %d characters", minPassword).On("password")
	case len(password) > maxPassword:
		return fault.Invalid("a password has at most %d bytes", maxPassword).On("password")
	case strings.EqualFold(password, name) || slices.Contains(common[:], strings.ToLower(password)):
		return fault.Invalid("this password is among the first that anybody would try").Try("use a few words").On("password")
	}
	return nil
}

func (p *NewPerson) check() error {
	p.Name, p.FullName, p.Email = strings.ToLower(strings.TrimSpace(p.Name)), strings.TrimSpace(p.FullName), strings.TrimSpace(p.Email)
	for _, err := range []error{
		CheckName(p.Name), checkText("full name", p.FullName, 100), checkEmail(p.Email), checkText("language", p.Lang, 20),
	} {
		if err != nil {
			return err
		}
	}
	if p.Password == "" {
		return nil
	}
	return checkPassword(p.Name, p.Password)
}

// Create makes an account; administrators may.
func (s *Service) Create(ctx context.Context, who Who, n NewPerson) (Person, error) {
	if err := who.mustAdminister(); err != nil {
		return Person{}, err
	}
	if err := n.check(); err != nil {
		return Person{}, err
	}
	hash, err := s.hash(ctx, n.Password)
	if err != nil {
		return Person{}, err
	}
	var p Person
	err = s.db.Tx(ctx, func(tx *db.Tx) error {
		p, err = insertPerson(ctx, tx, n, hash)
		if err != nil {
			return err
		}
		return s.Audit(ctx, tx, who, "person.create", p.Name, "")
	})
	return p, err
}

func (s *Service) hash(ctx context.Context, password string) (string, error) {
	if password == "" {
		return "", nil
	}
	return s.passwords.Hash(ctx, password)
}

func insertPerson(ctx context.Context, tx *db.Tx, n NewPerson, hash string) (Person, error) {
	p := Person{Name: n.Name, FullName: n.FullName, Email: n.Email, Admin: n.Admin, Active: true, Lang: n.Lang}
	var err error
	if p.ID, p.Created, err = insertOwner(ctx, tx, n.Name, n.FullName, false); err != nil {
		return Person{}, err
	}
	const insert = `INSERT INTO identity_person (id, email, password, admin, active, lang, theme) VALUES (?, ?, ?, ?, ?, ?, '')`
	if _, err := tx.Exec(ctx, insert, p.ID, p.Email, hash, p.Admin, p.Active, p.Lang); err != nil {
		return Person{}, fmt.Errorf("create %s: %w", n.Name, err)
	}
	return p, nil
}

const personColumns = `SELECT p.id, o.name, o.full_name, p.email, p.admin, p.active, p.lang, p.theme, o.created
	FROM identity_person p JOIN identity_owner o ON o.id = p.id `

func scanPerson(row scanner) (Person, error) {
	var p Person
	var created db.Time
	err := row.Scan(&p.ID, &p.Name, &p.FullName, &p.Email, &p.Admin, &p.Active, &p.Lang, &p.Theme, &created)
	p.Created = created.Time
	return p, err
}

// Person finds an account by name. A stranger finds none; the address is for the person
// and administrators.
func (s *Service) Person(ctx context.Context, who Who, name string) (Person, error) {
	row := s.db.QueryRow(ctx, personColumns+`WHERE o.name = ?`, strings.ToLower(name))
	return showPerson(row, who, name)
}

// PersonByID is Person by number.
func (s *Service) PersonByID(ctx context.Context, who Who, id int64) (Person, error) {
	row := s.db.QueryRow(ctx, personColumns+`WHERE p.id = ?`, id)
	return showPerson(row, who, fmt.Sprint(id))
}

func showPerson(row *db.Row, who Who, asked string) (Person, error) {
	p, err := scanPerson(row)
	if db.NotFound(err) || err == nil && who.Stranger() {
		return Person{}, fault.NotFound("there is no person called %.60s", asked)
	}
	if err != nil {
		return Person{}, fmt.Errorf("load person %.60s: %w", asked, err)
	}
	return p.shownTo(who), nil
}

func (p Person) shownTo(who Who) Person {
	if who.ID != p.ID && !who.Administers() {
		p.Email = ""
	}
	return p
}

// People lists all accounts by name, for those who have one.
func (s *Service) People(ctx context.Context, who Who) ([]Person, error) {
	if who.Stranger() {
		return nil, fault.SignIn("sign in first")
	}
	return list(ctx, s.db, "people", func(row scanner, p *Person) error {
		found, err := scanPerson(row)
		*p = found.shownTo(who)
		return err
	}, personColumns+`ORDER BY o.name`)
}

// Changes to an account; nil leaves a field as it is.
type Changes struct {
	FullName *string
	Email    *string
	Lang     *string
	Theme    *string
}

// UpdatePerson changes what a person says about themselves.
func (s *Service) UpdatePerson(ctx context.Context, who Who, id int64, c Changes) (Person, error) {
	if err := who.mustAct(id); err != nil {
		return Person{}, err
	}
	var p Person
	err := s.db.Tx(ctx, func(tx *db.Tx) error {
		var err error
		if p, err = scanPerson(tx.QueryRow(ctx, personColumns+`WHERE p.id = ?`, id)); err != nil {
			return notFoundPerson(err)
		}
		if err := p.change(c); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE identity_owner SET full_name = ? WHERE id = ?`, p.FullName, id); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE identity_person SET email = ?, lang = ?, theme = ? WHERE id = ?`, p.Email, p.Lang, p.Theme, id)
		return err
	})
	return p, err
}

func (p *Person) change(c Changes) error {
	for _, f := range []struct {
		to   *string
		from *string
	}{{&p.FullName, c.FullName}, {&p.Email, c.Email}, {&p.Lang, c.Lang}, {&p.Theme, c.Theme}} {
		if f.from != nil {
			*f.to = strings.TrimSpace(*f.from)
		}
	}
	for _, err := range []error{
		checkText("full name", p.FullName, 100), checkEmail(p.Email), checkText("language", p.Lang, 20), checkText("theme", p.Theme, 20),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

func notFoundPerson(err error) error {
	if db.NotFound(err) {
		return fault.NotFound("there is no such person")
	}
	return err
}

// SetPassword changes a password and ends every session of the person. People prove
// themselves with the old one; an administrator needs none for others.
func (s *Service) SetPassword(ctx context.Context, who Who, id int64, old, password string) error {
	if err := who.mustAct(id); err != nil {
		return err
	}
	var name, stored string
	const query = `SELECT o.name, p.password FROM identity_person p JOIN identity_owner o ON o.id = p.id WHERE p.id = ?`
	if err := s.db.QueryRow(ctx, query, id).Scan(&name, &stored); err != nil {
		return notFoundPerson(err)
	}
	if who.ID == id && stored != "" {
		if err := s.prove(ctx, id, name, stored, old); err != nil {
			return err
		}
	}
	if err := checkPassword(name, password); err != nil {
		return err
	}
	hash, err := s.passwords.Hash(ctx, password)
	if err != nil {
		return err
	}
	return s.changeAccount(ctx, who, id, "person.password", anybody, `UPDATE identity_person SET password = ? WHERE id = ?`, hash, id)
}

// prove checks the old password, as often as one may sign in.
func (s *Service) prove(ctx context.Context, id int64, name, stored, old string) error {
	chances := s.chances(name, "person "+fmt.Sprint(id))
	if err := chances.take(); err != nil {
		return err
	}
	ok, err := s.passwords.Verify(ctx, stored, old)
	if err != nil || ok {
		chances.refund()
	}
	if err == nil && !ok {
		return fault.Forbidden("the old password is wrong").On("old")
	}
	return err
}

// anybody is no condition of changeAccount.
func anybody(*db.Tx) error { return nil }

// changeAccount runs one statement on a condition, ends the sessions and takes it down.
func (s *Service) changeAccount(ctx context.Context, who Who, id int64, action string, allowed func(*db.Tx) error, statement string, args ...any) error {
	return s.db.Tx(ctx, func(tx *db.Tx) error {
		var name string
		if err := tx.QueryRow(ctx, `SELECT name FROM person WHERE id = ?`, id).Scan(&name); err != nil {
			return notFoundPerson(err)
		}
		if err := allowed(tx); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, statement, args...); err != nil {
			return fmt.Errorf("%s %s: %w", action, name, err)
		}
		for _, q := range []string{`DELETE FROM identity_session WHERE person = ?`, `DELETE FROM identity_code WHERE person = ?`} {
			if _, err := tx.Exec(ctx, q, id); err != nil {
				return err
			}
		}
		return s.Audit(ctx, tx, who, action, name, "")
	})
}

// SetAdmin gives or takes the power of an administrator, never from the last one.
func (s *Service) SetAdmin(ctx context.Context, who Who, id int64, admin bool) error {
	return s.demote(ctx, who, id, !admin, "person.admin", `UPDATE identity_person SET admin = ? WHERE id = ?`, admin, id)
}

// SetActive closes an account (nothing of it works any more) or opens it again.
func (s *Service) SetActive(ctx context.Context, who Who, id int64, active bool) error {
	return s.demote(ctx, who, id, !active, "person.active", `UPDATE identity_person SET active = ? WHERE id = ?`, active, id)
}

// Delete removes a person who owns nothing. What they did stays in the audit log.
func (s *Service) Delete(ctx context.Context, who Who, id int64) error {
	if err := who.mustAct(id); err != nil {
		return err
	}
	return s.demote(ctx, System(), id, true, actionDelete, `DELETE FROM identity_owner WHERE id = ?`, id)
}

const actionDelete = "person.delete"

// demote is changeAccount by an administrator that leaves at least one of them.
func (s *Service) demote(ctx context.Context, who Who, id int64, down bool, action, statement string, args ...any) error {
	if err := who.mustAdminister(); err != nil {
		return err
	}
	return s.changeAccount(ctx, who, id, action, func(tx *db.Tx) error {
		if !down {
			return nil
		}
		var others int
		const query = `SELECT count(*) FROM identity_person WHERE admin AND active AND id <> ?`
		if err := tx.QueryRow(ctx, query, id).Scan(&others); err != nil {
			return fmt.Errorf("%s: %w", action, err)
		}
		if others == 0 {
			return fault.Conflict("this is the last administrator").Try("make somebody else an administrator first")
		}
		if action == actionDelete {
			return s.mustOwnNothing(ctx, tx, id)
		}
		return nil
	}, statement, args...)
}
