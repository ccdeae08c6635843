package web

import (
	"bytes"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
)

// OnDisk finds the directory that fsys was embedded from, for development: edits show
// without a rebuild. It is the directory of the calling source file, or one directly below
// it, that has every file of fsys; skip is how many callers to go up. Where there is none,
// as in a released binary, it is fsys.
func OnDisk(fsys fs.FS, skip int) fs.FS {
	_, file, _, ok := runtime.Caller(skip + 1)
	if !ok || !filepath.IsAbs(file) {
		return fsys
	}
	dir := filepath.Dir(file)
	candidates := []string{dir}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			candidates = append(candidates, filepath.Join(dir, e.Name()))
		}
	}
	for _, c := range candidates {
		if disk := os.DirFS(c); hasAll(disk, fsys) {
			return disk
		}
	}
	return fsys
}

func hasAll(disk, fsys fs.FS) bool {
	some := false
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		some = true
		_, err = fs.Stat(disk, name)
		return err
	})
	return err == nil && some
}

// A sourceError is an error with the lines of the file that it is about.
type sourceError struct {
	err   error
	File  string
	Line  int
	Lines []sourceLine
}

type sourceLine struct {
	Number int
	Text   string
	Fault  bool
}

func (e *sourceError) Error() string { return e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }

// withSource adds the lines around a template's error: "template: issue.html:12:5: …".
func withSource(err error, files map[string]fs.FS) error {
	m := regexp.MustCompile(`([\w./-]+\.html):(\d+)`).FindStringSubmatch(err.Error())
	if m == nil || files[m[1]] == nil {
		return err
	}
	b, readErr := fs.ReadFile(files[m[1]], m[1])
	if readErr != nil {
		return err
	}
	line, _ := strconv.Atoi(m[2])
	return &sourceError{err, m[1], line, excerpt(b, line)}
}

func excerpt(b []byte, line int) []sourceLine {
	const around = 6
	var list []sourceLine
	for i, text := range bytes.Split(b, []byte("\n")) {
		if n := i + 1; n >= line-around && n <= line+around {
			list = append(list, sourceLine{n, string(text), n == line})
		}
	}
	return list
}

// panicSource finds the line that panicked: the first in the stack below the runtime's
// panic whose file can be read and is not of the Go tree, which lies around panic.go.
func panicSource(p *PanicError) *sourceError {
	_, stack, _ := strings.Cut(string(p.Stack), "panic(")
	files := regexp.MustCompile(`(?m)^\t(/.+\.go):(\d+)`).FindAllStringSubmatch(stack, -1)
	if len(files) == 0 {
		return nil
	}
	goTree := strings.TrimSuffix(files[0][1], "runtime/panic.go")
	for _, m := range files {
		if strings.HasPrefix(m[1], goTree) {
			continue
		}
		if b, err := os.ReadFile(m[1]); err == nil {
			line, _ := strconv.Atoi(m[2])
			return &sourceError{p, m[1], line, excerpt(b, line)}
		}
	}
	return nil
}

const sourcePage = `<!doctype html><meta charset=utf-8><title>{{.Err}}</title>
<meta name=viewport content="width=device-width"><style>
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#222;background:#fff}
pre{background:#f4f4f4;padding:.5rem 0;overflow:auto;font-size:13px}pre span{display:block;padding:0 1rem}
.fault{background:#ffd9d4}h1{font-size:1.2rem;overflow-wrap:anywhere}</style>
<h1>{{.Err}}</h1>{{with .Source}}<p>{{.File}}:{{.Line}}</p><pre>{{range .Lines}}<span{{if .Fault}} class="fault"{{end}}>{{printf "%4d" .Number}}  {{.Text}}</span>{{end}}</pre>{{end}}
{{with .Stack}}<details><summary>Stack</summary><pre><span>{{.}}</span></pre></details>{{end}}`

// showSource answers with an error and its source, for development only.
func showSource(w http.ResponseWriter, err error) {
	page := struct {
		Err    error
		Source *sourceError
		Stack  string
	}{Err: err}
	page.Source, _ = errors.AsType[*sourceError](err)
	var b bytes.Buffer
	if p, ok := errors.AsType[*PanicError](err); ok {
		page.Stack = string(p.Stack)
		if page.Source == nil {
			page.Source = panicSource(p)
		}
	}
	if err := template.Must(template.New("").Parse(sourcePage)).Execute(&b, page); err != nil {
		fmt.Fprintln(&b, err)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(http.StatusInternalServerError)
	w.Write(b.Bytes())
}
