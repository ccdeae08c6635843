package repo

import (
	"strings"

	"sampan.dev/sampan/internal/fault"
)

// maxDescription is a sentence, not a document: that is what README files are for.
const maxDescription = 500

// CheckName says what is wrong with the name of a repository.
func CheckName(name string) error {
	why := ""
	switch {
	case name == "":
		return fault.Invalid("a repository needs a name").On("name")
	case len(name) > 100:
		why = "it is longer than 100 characters"
	case !onlyNameCharacters(name):
		why = "it may have letters, digits, dots, dashes and underscores only"
	case name[0] == '.' || name[0] == '-':
		why = "it begins with a dot or a dash"
	case strings.Contains(name, ".."):
		why = "it has two dots in a row"
	case hasReservedEnd(strings.ToLower(name)):
		why = "it ends like a file of git"
	}
	if why != "" {
		return fault.Invalid("%.100q cannot be the name of a repository: %s", name, why).
			Try("choose a name such as hello-go").On("name")
	}
	return nil
}

func onlyNameCharacters(name string) bool {
	for i := range len(name) {
		c := name[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}

func hasReservedEnd(name string) bool {
	for _, end := range []string{".git", ".lock", ".wiki", ".", ".rss", ".atom"} {
		if strings.HasSuffix(name, end) {
			return true
		}
	}
	return false
}

// ParsePath takes apart what a git client calls a repository: "/ann/hello.git", with or
// without the slash and the ending. A path of one part has no owner: it names an app's
// remote.
func ParsePath(path string) (owner, name string, err error) {
	p := strings.TrimSuffix(strings.TrimPrefix(path, "/"), "/")
	p = strings.TrimSuffix(p, ".git")
	owner, name, two := strings.Cut(p, "/")
	if !two {
		owner, name = "", p
	}
	if CheckName(name) != nil || two && CheckName(owner) != nil {
		return "", "", fault.NotFound("no such repository: %.200q", path).
			Try("the address is OWNER/NAME.git")
	}
	return owner, name, nil
}
