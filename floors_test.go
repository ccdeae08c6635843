package sampan_test

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "sampan.dev/sampan"

// A listed is what `go list` says of one package.
type listed struct {
	ImportPath, Dir, Name string
	GoFiles, CgoFiles     []string
	Imports               []string
}

// rel is the package's path below the module, "" for the root.
func (p listed) rel() string {
	return strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
}

func packages(t *testing.T) []listed {
	t.Helper()
	out, err := exec.Command("go", "list", "-json", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); err == io.EOF {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// floors reads floors.txt: the floor of each part.
func floors(t *testing.T) map[string]int {
	t.Helper()
	text, err := os.ReadFile("floors.txt")
	if err != nil {
		t.Fatal(err)
	}
	of, n := map[string]int{}, 0
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		for _, part := range strings.Fields(line) {
			of[part] = n
		}
		n++
	}
	return of
}

// part finds the part that a package belongs to: the longest listed prefix.
func part(of map[string]int, rel string) string {
	for p := rel; p != "." && p != ""; p = path.Dir(p) {
		if _, ok := of[p]; ok {
			return p
		}
	}
	return ""
}

func TestImportsGoDownwards(t *testing.T) {
	of := floors(t)
	for _, p := range packages(t) {
		if p.rel() == "" {
			continue
		}
		mine := part(of, p.rel())
		if mine == "" {
			t.Errorf("%s stands on no floor: add its part to floors.txt", p.rel())
			continue
		}
		for _, imp := range p.Imports {
			if !strings.HasPrefix(imp, module+"/") {
				continue
			}
			theirs := part(of, strings.TrimPrefix(imp, module+"/"))
			if theirs != mine && of[theirs] >= of[mine] {
				t.Errorf("%s imports %s, which does not stand below it", p.rel(), imp)
			}
		}
	}
}

// Names that say nothing, and names of the standard library's packages that we use.
var badNames = []string{
	"util", "utils", "common", "helpers", "helper", "types", "base", "misc", "models", "services", "handlers",
	"sync", "http", "log", "slog", "errors", "context", "time", "os", "io", "net", "sql", "json", "strings", "bytes", "path", "embed", "template", "url", "exec", "signal", "tar",
}

func TestPackagesAreNamedAndExplained(t *testing.T) {
	for _, p := range packages(t) {
		if slices.Contains(badNames, p.Name) {
			t.Errorf("%s: %q says nothing, or is a name of the standard library", p.rel(), p.Name)
		}
		files := slices.Concat(p.GoFiles, p.CgoFiles)
		if p.rel() == "" || len(files) == 0 {
			continue
		}
		own := filepath.Base(p.Dir) + ".go"
		if p.Name == "main" {
			own = "main.go"
		}
		found := false
		lines := 0
		for _, name := range files {
			file := filepath.Join(p.Dir, name)
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			n := bytes.Count(src, []byte("\n"))
			if lines += n; n > 800 {
				t.Errorf("%s/%s has %d lines; over 800: split it by subject", p.rel(), name, n)
			}
			f, err := parser.ParseFile(token.NewFileSet(), file, src, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			if f.Doc != nil {
				if found = name == own; !found {
					t.Errorf("%s: the package comment stands in %s, not in %s", p.rel(), name, own)
					found = true
				}
			}
			forbidInit(t, p.rel()+"/"+name, f)
		}
		if !found {
			t.Errorf("%s has no package comment in %s", p.rel(), own)
		}
		if lines > 10_000 {
			t.Errorf("%s has %d lines; over 10,000: split it", p.rel(), lines)
		}
	}
}

func forbidInit(t *testing.T, where string, f *ast.File) {
	t.Helper()
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
			t.Errorf("%s has an init function; the list of parts is code in server/parts.go", where)
		}
	}
}

// web becomes a module of its own one day: it may not lean on anything else of ours.
func TestWebStandsAlone(t *testing.T) {
	for _, p := range packages(t) {
		if p.rel() != "web" && !strings.HasPrefix(p.rel(), "web/") {
			continue
		}
		for _, imp := range p.Imports {
			if strings.HasPrefix(imp, module+"/") && !strings.HasPrefix(imp, module+"/web") {
				t.Errorf("%s imports %s; web must be usable alone", p.rel(), imp)
			}
		}
	}
}
