package web_test

import (
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/fstest"

	"sampan.dev/sampan/web"
)

func mapFile(name, data string) fs.FS { return fstest.MapFS{name: {Data: []byte(data)}} }

// BenchmarkRouter finds one of 200 routes, through all that an App does for a request.
func BenchmarkRouter(b *testing.B) {
	app := web.New(web.Config{})
	empty := func(w http.ResponseWriter, r *http.Request) error { return nil }
	for i := range 100 {
		app.Handle(fmt.Sprintf("GET /{owner}/{repo}/part%d/{id}", i), empty)
		app.Handle(fmt.Sprintf("GET /-/apps/part%d/{name}", i), empty)
	}
	for _, path := range []string{"/ann/site/part77/9", "/-/apps/part77/hello"} {
		b.Run(path, func(b *testing.B) {
			r, w := httptest.NewRequest("GET", path, nil), discard{http.Header{}}
			b.ReportAllocs()
			for b.Loop() {
				app.ServeHTTP(w, r)
			}
		})
	}
}

type discard struct{ h http.Header }

func (d discard) Header() http.Header         { return d.h }
func (d discard) Write(p []byte) (int, error) { return len(p), nil }
func (d discard) WriteHeader(int)             {}

// BenchmarkBind fills a struct of four fields from a path and a query.
func BenchmarkBind(b *testing.B) {
	app := web.New(web.Config{})
	app.Handle("GET /{owner}", func(w http.ResponseWriter, r *http.Request) error {
		var in struct {
			Owner string `path:"owner"`
			Query string `query:"q" max:"100"`
			Page  int    `query:"page"`
			Open  bool   `query:"open"`
		}
		return web.Bind(r, &in)
	})
	r, w := httptest.NewRequest("GET", "/ann?q=oar&page=3&open=on", nil), discard{http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		app.ServeHTTP(w, r)
	}
}

// BenchmarkPage renders a page of 13 rows in its layout.
func BenchmarkPage(b *testing.B) {
	t, err := web.NewTemplates(web.TemplatesConfig{Base: mapFile("layout.html",
		`{{define "layout"}}<!doctype html><title>{{template "title" .}}</title><main>{{template "main" .}}</main>{{end}}`)})
	if err != nil {
		b.Fatal(err)
	}
	err = t.Add(mapFile("list.html", `{{define "title"}}Boats{{end}}{{define "main"}}<table>{{range .}}<tr><td><a href="/{{.Name}}">{{.Name}}</a><td>{{.Seats}}<td>{{t "at-sea"}}</tr>{{end}}</table>{{end}}`))
	if err != nil {
		b.Fatal(err)
	}
	type boat struct {
		Name  string
		Seats int
	}
	rows := make([]boat, 13)
	for i := range rows {
		rows[i] = boat{fmt.Sprintf("boat-%d", i), i}
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := t.Render(io.Discard, "en", "list", "layout", rows); err != nil {
			b.Fatal(err)
		}
	}
}
