package identity

import (
	"net/mail"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"sampan.dev/sampan/internal/fault"
)

const maxName = 39

// reserved are names that mean something else in an address, now or soon, or that would
// let somebody pose as the operator.
var reserved = [...]string{
	"about", "admin", "administrator", "api", "app", "apps", "assets", "auth", "debug", "deis", "docs",
	"explore", "favicon", "git", "healthz", "help", "internal", "issues", "login", "logout", "metrics",
	"new", "notifications", "org", "orgs", "pulls", "raw", "register", "repo", "repos", "robots", "root",
	"sampan", "security", "settings", "setup", "sign-in", "sign-out", "static", "status", "support",
	"system", "team", "teams", "user", "users", "v1", "v2", "well-known", "www",
}

// CheckName says what is wrong with the name of a person or an organisation.
func CheckName(name string) error {
	switch {
	case name == "":
		return fault.Invalid("a name is missing").On("name")
	case len(name) > maxName:
		return fault.Invalid("a name has at most %d characters", maxName).On("name")
	case strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || name[0] == '-' || name[len(name)-1] == '-':
		return fault.Invalid("%.60q cannot be a name", name).
			Try("use a-z, 0-9 and hyphens, and begin and end with a letter or a digit").On("name")
	case slices.Contains(reserved[:], name):
		return fault.Invalid("the name %q is reserved", name).Try("choose another one").On("name")
	}
	return nil
}

// checkText accepts one line that people read, such as a title.
func checkText(field, text string, longest int) error {
	if !utf8.ValidString(text) || utf8.RuneCountInString(text) > longest || strings.ContainsFunc(text, unicode.IsControl) {
		return fault.Invalid("%s must be one line of at most %d characters", field, longest).On(field)
	}
	return nil
}

func checkEmail(email string) error {
	if email == "" {
		return nil
	}
	a, err := mail.ParseAddress(email)
	if err != nil || a.Address != email || len(email) > 254 {
		return fault.Invalid("%.60q is not an email address", email).On("email")
	}
	return nil
}
