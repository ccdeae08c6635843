package golang

import (
	"go/version"
	"runtime"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"

	"sampan.dev/sampan/internal/fault"
)

// A Module is what go.mod says.
type Module struct {
	Path      string
	Go        string // "1.26"; empty when it is not said
	Toolchain string // "go1.26.8"; empty when it is not said
}

// Parse reads a go.mod file.
func Parse(text []byte) (Module, error) {
	f, err := modfile.ParseLax("go.mod", text, nil)
	if err != nil {
		return Module{}, fault.Invalid("go.mod cannot be read: %w", err).Try("run go mod tidy and commit go.mod")
	}
	if f.Module == nil {
		return Module{}, fault.Invalid("go.mod has no module line").Try("run go mod init NAME and commit go.mod")
	}
	if err := module.CheckImportPath(f.Module.Mod.Path); err != nil {
		return Module{}, fault.Invalid("go.mod names a module that cannot be: %w", err)
	}
	m := Module{Path: f.Module.Mod.Path}
	if f.Go != nil {
		m.Go = f.Go.Version
	}
	m.Toolchain = toolchainLine(f.Syntax)
	if m.Go != "" && !isRelease("go"+m.Go) || m.Toolchain != "" && !isRelease(m.Toolchain) {
		return Module{}, fault.Invalid("go.mod names a Go version that does not exist: %s %s", m.Go, m.Toolchain).
			Try("write for example go 1.26")
	}
	return m, nil
}

// isRelease accepts Go's own releases. What others append after a hyphen is refused: they are
// published nowhere, and the name becomes part of a path.
func isRelease(name string) bool { return version.IsValid(name) && !strings.ContainsAny(name, "-/\\") }

// toolchainLine finds the line that the lax reading, which newer directives do not disturb, leaves out.
func toolchainLine(f *modfile.FileSyntax) string {
	for _, s := range f.Stmt {
		line, ok := s.(*modfile.Line)
		if ok && len(line.Token) == 2 && line.Token[0] == "toolchain" && line.Token[1] != "default" && line.Token[1] != "local" {
			return line.Token[1]
		}
	}
	return ""
}

// Release is the Go release to build with. A toolchain line is obeyed to the letter. A go line
// is a minimum: Sampan's own release does unless more is asked, so that most apps share one
// toolchain and its compiled standard library.
func (m Module) Release() string {
	if m.Toolchain != "" && version.Compare(m.Toolchain, "go"+m.Go) >= 0 {
		return m.Toolchain
	}
	own := Own()
	if m.Go == "" || version.Compare("go"+m.Go, own) <= 0 {
		return own
	}
	if strings.Count(m.Go, ".") == 1 && !strings.ContainsAny(m.Go, "rb") {
		return "go" + m.Go + ".0" // since 1.21 a language version's first release is called so
	}
	return "go" + m.Go
}

// Own is the release that Sampan was built with.
func Own() string {
	own, _, _ := strings.Cut(strings.TrimPrefix(runtime.Version(), "devel "), " ")
	own, _, _ = strings.Cut(own, "-")
	if !version.IsValid(own) {
		return "go1.26.0"
	}
	return own
}
