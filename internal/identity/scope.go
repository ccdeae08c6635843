package identity

import (
	"encoding/json"
	"slices"
	"strings"

	"sampan.dev/sampan/internal/fault"
)

// A Right is one thing that a token may do.
type Right string

// Writing includes reading. RightPerson is the whole account, keys and tokens included.
const (
	RightRepoRead  Right = "repo:read"
	RightRepoWrite Right = "repo:write"
	RightAppRead   Right = "app:read"
	RightAppWrite  Right = "app:write"
	RightPerson    Right = "person"
	RightAdmin     Right = "admin"
)

// Rights are all there are, in the order of a form.
func Rights() []Right {
	return []Right{RightRepoRead, RightRepoWrite, RightAppRead, RightAppWrite, RightPerson, RightAdmin}
}

// A Scope restricts a token. With Objects, all others do not exist for it.
type Scope struct {
	Rights  []Right     `json:"rights"`
	Objects []ObjectRef `json:"objects,omitempty"`
}

// An ObjectRef names an object of another part.
type ObjectRef struct {
	Kind string `json:"kind"`
	ID   int64  `json:"id"`
}

// role is the most that the scope allows on an object.
func (s *Scope) role(o Object) Role {
	if s == nil {
		return Manager
	}
	if len(s.Objects) > 0 && !slices.Contains(s.Objects, ObjectRef{o.Kind, o.ID}) {
		return None
	}
	return s.roleOnKind(o.Kind)
}

func (s *Scope) roleOnKind(kind string) Role {
	switch {
	case s == nil || slices.Contains(s.Rights, Right(kind+":write")):
		return Manager
	case slices.Contains(s.Rights, Right(kind+":read")):
		return Reader
	}
	return None
}

// check refuses rights that do not exist, and the combination that would be a hole: a
// token for one repository that may make itself a token for all.
func (s *Scope) check() error {
	if s == nil {
		return nil
	}
	if len(s.Rights) == 0 {
		return fault.Invalid("a token without rights is of no use").On("rights")
	}
	for _, r := range s.Rights {
		if !slices.Contains(Rights(), r) {
			return fault.Invalid("%.40q is not a right", r).Try("choose from %s", listRights()).On("rights")
		}
		if len(s.Objects) > 0 && (r == RightPerson || r == RightAdmin) {
			return fault.Invalid("a token for single objects cannot have the right %q", r).On("rights")
		}
	}
	return nil
}

func listRights() string {
	var names []string
	for _, r := range Rights() {
		names = append(names, string(r))
	}
	return strings.Join(names, ", ")
}

// within reports that s allows nothing that outer does not.
func (s *Scope) within(outer *Scope) bool {
	if outer == nil {
		return true
	}
	if s == nil || len(outer.Objects) > 0 && len(s.Objects) == 0 {
		return false
	}
	for _, r := range s.Rights {
		write := Right(strings.Replace(string(r), ":read", ":write", 1))
		if !slices.Contains(outer.Rights, r) && !slices.Contains(outer.Rights, write) {
			return false
		}
	}
	for _, o := range s.Objects {
		if len(outer.Objects) > 0 && !slices.Contains(outer.Objects, o) {
			return false
		}
	}
	return true
}

func (s *Scope) encode() (*string, error) {
	if s == nil {
		return nil, nil
	}
	text, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	column := string(text)
	return &column, nil
}

func decodeScope(column *string) (*Scope, error) {
	if column == nil {
		return nil, nil
	}
	s := new(Scope)
	return s, json.Unmarshal([]byte(*column), s)
}
