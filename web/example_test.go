package web_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"strings"
	"testing/fstest"

	"sampan.dev/sampan/web"
)

// ask serves one request and prints the answer.
func ask(h http.Handler, method, target string, header ...string) *http.Response {
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	res := w.Result()
	b, _ := io.ReadAll(res.Body)
	fmt.Println(strings.TrimSpace(fmt.Sprint(res.StatusCode, " ", string(b))))
	return res
}

func Example() {
	app := web.New(web.Config{})
	app.Handle("GET /boats/{name}", func(w http.ResponseWriter, r *http.Request) error {
		var in struct {
			Name  string `path:"name"`
			Seats int    `query:"seats"`
		}
		if err := web.Bind(r, &in); err != nil {
			return err
		}
		if in.Name != "sampan" {
			return web.Error(http.StatusNotFound, "there is no boat %q", in.Name)
		}
		return web.JSON(w, http.StatusOK, in)
	})
	ask(app, "GET", "/boats/sampan?seats=4")
	ask(app, "GET", "/boats/ark")
	ask(app, "GET", "/boats/sampan?seats=many")
	// Output:
	// 200 {"Name":"sampan","Seats":4}
	// 404 there is no boat "ark"
	// 400 seats must be a whole number
}

func ExampleNew() {
	app := web.New(web.Config{
		Error: func(w http.ResponseWriter, r *http.Request, err error) {
			http.Error(w, "sorry: "+err.Error(), web.StatusOf(err))
		},
	})
	ask(app, "GET", "/nowhere")
	// Output: 404 sorry: there is nothing at this address
}

func ExampleApp_Handle() {
	app := web.New(web.Config{})
	say := func(text string) web.Handler {
		return func(w http.ResponseWriter, r *http.Request) error {
			_, err := fmt.Fprintln(w, text, r.PathValue("owner"), r.PathValue("name"))
			return err
		}
	}
	app.Handle("GET /{owner}/{name}/settings", say("repository"))
	app.Handle("GET /-/apps/{name}", say("app")) // one ServeMux would refuse this beside the first
	ask(app, "GET", "/ann/site/settings")
	ask(app, "GET", "/-/apps/settings")
	ask(app, "POST", "/-/apps/settings")
	// Output:
	// 200 repository ann site
	// 200 app  settings
	// 405 this address does not answer to POST
}

func ExampleApp_Mount() {
	app := web.New(web.Config{})
	app.Mount("/api", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "api", r.URL.Path) }))
	app.Mount("/api/v1", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "first version") }))
	ask(app, "GET", "/api/v1/boats")
	ask(app, "GET", "/api/v10")
	// Output:
	// 200 first version
	// 200 api /api/v10
}

func ExampleApp_Sub() {
	app := web.New(web.Config{})
	admin := app.Sub()
	admin.Use(func(http.Handler) http.Handler { return http.NotFoundHandler() })
	admin.Handle("GET /admin/", func(http.ResponseWriter, *http.Request) error { return nil })
	app.Mount("/admin", admin)
	ask(app, "GET", "/admin/")
	// Output: 404 404 page not found
}

func ExampleApp_Use() {
	app := web.New(web.Config{})
	app.Use(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Boat", "sampan")
			next.ServeHTTP(w, r)
		})
	})
	app.Handle("GET /{$}", func(w http.ResponseWriter, r *http.Request) error { return nil })
	fmt.Println(ask(app, "GET", "/").Header.Get("X-Boat"))
	// Output:
	// 200
	// sampan
}

func ExampleApp_Locales() {
	m := web.NewMessages("en", "zh")
	err := m.Add(fstest.MapFS{
		"en.json": {Data: []byte(`{"hello": "Hello, {0}"}`)},
		"zh.json": {Data: []byte(`{"hello": "你好，{0}"}`)},
	})
	if err != nil {
		panic(err)
	}
	app := web.New(web.Config{})
	app.Locales(m)
	app.Handle("GET /{$}", func(w http.ResponseWriter, r *http.Request) error {
		_, err := fmt.Fprintln(w, web.LocaleOf(r).T("hello", "ann"))
		return err
	})
	ask(app, "GET", "/")
	ask(app, "GET", "/", "Accept-Language", "zh-CN,en;q=0.8")
	// Output:
	// 200 Hello, ann
	// 200 你好，ann
}

func ExampleApp_ServeHTTP() {
	var h http.Handler = web.New(web.Config{})
	ask(h, "GET", "/", "Accept", "text/html")
	// Output: 404 there is nothing at this address
}

func ExampleBind() {
	app := web.New(web.Config{})
	app.Handle("GET /search", func(w http.ResponseWriter, r *http.Request) error {
		in := struct {
			Words  string   `query:"q" required:"true" max:"40"`
			Labels []string `query:"label"`
			Page   int      `query:"page"`
			Open   bool     `query:"open"`
		}{Page: 1}
		if err := web.Bind(r, &in); err != nil {
			return err
		}
		_, err := fmt.Fprintf(w, "%+v", in)
		return err
	})
	ask(app, "GET", "/search?q=oar&label=bug&label=easy&open=on")
	ask(app, "GET", "/search?page=one")
	// Output:
	// 200 {Words:oar Labels:[bug easy] Page:1 Open:true}
	// 400 q is missing; page must be a whole number
}

func ExampleReadJSON() {
	r := httptest.NewRequest("POST", "/", strings.NewReader(`{"Name": "sampan"}`))
	var in struct{ Name string }
	fmt.Println(web.ReadJSON(r, &in), in.Name)
	r = httptest.NewRequest("POST", "/", strings.NewReader(`{"Name": `))
	err := web.ReadJSON(r, &in)
	fmt.Println(web.StatusOf(err), err)
	// Output:
	// <nil> sampan
	// 400 the body is not JSON: unexpected EOF
}

func ExampleInputError() {
	err := &web.InputError{Fields: []web.FieldError{{Name: "name", Reason: "is missing"}}}
	fmt.Println(web.StatusOf(err), err)
	// Output: 400 name is missing
}

func ExampleRedirect() {
	app := web.New(web.Config{})
	app.Handle("POST /boats", func(w http.ResponseWriter, r *http.Request) error { return web.Redirect(w, r, "/boats/1") })
	fmt.Println(ask(app, "POST", "/boats").Header.Get("Location"))
	// Output:
	// 303
	// /boats/1
}

func ExampleLocalPath() {
	fmt.Println(web.LocalPath("/boats?page=2"), web.LocalPath("https://elsewhere.example/"), web.LocalPath("//elsewhere.example"))
	// Output: /boats?page=2 / /
}

func ExampleJSON() {
	w := httptest.NewRecorder()
	web.JSON(w, http.StatusCreated, map[string]int{"seats": 4})
	fmt.Print(w.Code, " ", w.Header().Get("Content-Type"), " ", w.Body)
	// Output: 201 application/json; charset=utf-8 {"seats":4}
}

func ExampleFlash() {
	app := web.New(web.Config{})
	app.Handle("POST /boats", func(w http.ResponseWriter, r *http.Request) error {
		web.Flash(r, "done", "The boat is launched")
		return web.Redirect(w, r, "/boats")
	})
	app.Handle("GET /boats", func(w http.ResponseWriter, r *http.Request) error {
		notices := web.Notices(r)
		_, err := fmt.Fprintln(w, notices)
		return err
	})
	cookie := strings.Split(ask(app, "POST", "/boats").Header.Get("Set-Cookie"), ";")[0]
	ask(app, "GET", "/boats", "Cookie", cookie)
	// Output:
	// 303
	// 200 [{done The boat is launched}]
}

func ExampleNotices() {
	app := web.New(web.Config{})
	app.Handle("GET /{$}", func(w http.ResponseWriter, r *http.Request) error {
		web.Flash(r, "done", "once")
		first, second := web.Notices(r), web.Notices(r)
		_, err := fmt.Fprintln(w, first, second)
		return err
	})
	ask(app, "GET", "/")
	// Output: 200 [{done once}] []
}

func ExampleSessionOf() {
	app := web.New(web.Config{})
	app.Handle("POST /sign-in", func(w http.ResponseWriter, r *http.Request) error {
		s := web.SessionOf(r)
		s.Rotate()
		s.Set("name", "ann")
		return nil
	})
	app.Handle("GET /me", func(w http.ResponseWriter, r *http.Request) error {
		_, err := fmt.Fprintln(w, "I am", web.SessionOf(r).Get("name"))
		return err
	})
	cookie := strings.Split(ask(app, "POST", "/sign-in").Header.Get("Set-Cookie"), ";")[0]
	ask(app, "GET", "/me", "Cookie", cookie)
	ask(app, "GET", "/me", "Cookie", cookie+"tampered")
	// Output:
	// 200
	// 200 I am ann
	// 200 I am
}

func ExampleSession_Clear() {
	app := web.New(web.Config{})
	app.Handle("POST /sign-out", func(w http.ResponseWriter, r *http.Request) error {
		web.SessionOf(r).Clear()
		return nil
	})
	fmt.Println(ask(app, "POST", "/sign-out", "Cookie", "session=old").Header.Get("Set-Cookie"))
	// Output:
	// 200
	// session=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax
}

func ExampleLocaleOf() {
	fmt.Printf("%q\n", web.LocaleOf(httptest.NewRequest("GET", "/", nil)).Lang) // no App serves it
	// Output: ""
}

func ExampleLocale_T() {
	m := web.NewMessages("en")
	if err := m.Add(fstest.MapFS{"en.json": {Data: []byte(`{"seats": {"one": "{0} seat on {1}", "other": "{0} seats on {1}"}}`)}}); err != nil {
		panic(err)
	}
	l := m.Locale("en")
	fmt.Println(l.T("seats", 1, "the ark"))
	fmt.Println(l.T("seats", 2, "the ark"))
	fmt.Println(l.T("unknown"))
	// Output:
	// 1 seat on the ark
	// 2 seats on the ark
	// unknown
}

func ExampleLocale_Languages() {
	fmt.Println(web.NewMessages("en", "zh").Locale("zh").Languages())
	// Output: [en zh]
}

func ExampleNewMessages() {
	fmt.Println(web.NewMessages("en", "zh").Locale("fr").Lang)
	// Output: en
}

func ExampleMessages_Add() {
	m := web.NewMessages("en")
	files := fstest.MapFS{"en.json": {Data: []byte(`{"a": "A"}`)}}
	fmt.Println(m.Add(files))
	fmt.Println(m.Add(files))
	// Output:
	// <nil>
	// read messages en.json: "a" is there already
}

func ExampleMessages_Reload() {
	files := fstest.MapFS{"en.json": {Data: []byte(`{"a": "old"}`)}}
	m := web.NewMessages("en")
	if err := m.Add(files); err != nil {
		panic(err)
	}
	files["en.json"] = &fstest.MapFile{Data: []byte(`{"a": "new"}`)}
	fmt.Println(m.Reload(), m.Locale("en").T("a"))
	// Output: <nil> new
}

func ExampleMessages_Locale() {
	fmt.Println(web.NewMessages("en", "zh").Locale("zh").Lang)
	// Output: zh
}

func ExampleMessages_Match() {
	m := web.NewMessages("en", "zh")
	fmt.Println(m.Match("fr, zh-Hant-TW;q=0.9, en;q=0.5"), m.Match("fr"))
	// Output: zh en
}

func ExampleMessages_Check() {
	m := web.NewMessages("en", "zh")
	err := m.Add(fstest.MapFS{
		"en.json": {Data: []byte(`{"a": "A", "b": "{0} boats"}`)},
		"zh.json": {Data: []byte(`{"b": "船"}`)},
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(m.Check())
	// Output:
	// zh.json lacks "a"
	// zh.json: "b" has the places "", not "{0}"
}

// pages are a layout and a page of it.
var pages = fstest.MapFS{
	"layout.html": {Data: []byte(`{{define "layout"}}<main>{{template "main" .}}</main>{{end}}`)},
	"boat.html":   {Data: []byte(`{{define "main"}}<b>{{.}}</b>{{end}}`)},
}

func only(name string) fstest.MapFS { return fstest.MapFS{name: pages[name]} }

func ExampleNewTemplates() {
	t, err := web.NewTemplates(web.TemplatesConfig{Base: only("layout.html")})
	if err != nil {
		panic(err)
	}
	if err := t.Add(only("boat.html")); err != nil {
		panic(err)
	}
	fmt.Println(t.Render(os.Stdout, "en", "boat", "layout", "<sampan>"))
	// Output: <main><b>&lt;sampan&gt;</b></main><nil>
}

func ExampleTemplates_Add() {
	t, err := web.NewTemplates(web.TemplatesConfig{})
	if err != nil {
		panic(err)
	}
	fmt.Println(t.Add(fstest.MapFS{"bad.html": {Data: []byte("one\n{{two")}}))
	// Output: template: bad.html:2: function "two" not defined
}

func ExampleTemplates_Render() {
	t, err := web.NewTemplates(web.TemplatesConfig{})
	if err != nil {
		panic(err)
	}
	fmt.Println(t.Render(io.Discard, "en", "ark", "main", nil))
	// Output: there is no page "ark"
}

func ExampleTemplates_Reload() {
	files := fstest.MapFS{"boat.html": {Data: []byte(`old`)}}
	t, err := web.NewTemplates(web.TemplatesConfig{})
	if err != nil {
		panic(err)
	}
	if err := t.Add(files); err != nil {
		panic(err)
	}
	files["boat.html"] = &fstest.MapFile{Data: []byte(`new`)}
	fmt.Println(t.Reload(), t.Render(os.Stdout, "en", "boat", "boat.html", nil))
	// Output: new<nil> <nil>
}

func ExampleTemplates_Escape() {
	t, err := web.NewTemplates(web.TemplatesConfig{})
	if err != nil {
		panic(err)
	}
	if err := t.Add(fstest.MapFS{"bad.html": {Data: []byte(`{{define "main"}}<a href='{{if .}}x{{else}}'{{end}}>{{end}}`)}}); err != nil {
		panic(err)
	}
	fmt.Println(t.Escape("main") != nil)
	// Output: true
}

func ExampleNewStatic() {
	s := web.NewStatic("/static/", false)
	if err := s.Add("", fstest.MapFS{"boat.css": {Data: []byte("b{}")}}); err != nil {
		panic(err)
	}
	app := web.New(web.Config{})
	app.Mount("/static/", s)
	res := ask(app, "GET", s.URL("boat.css"))
	fmt.Println(res.Header.Get("Cache-Control"))
	// Output:
	// 200 b{}
	// public, max-age=31536000, immutable
}

func ExampleStatic_Add() {
	s := web.NewStatic("/static/", false)
	fmt.Println(s.Add("apps", fstest.MapFS{"live.js": {Data: []byte("1")}}), path.Dir(s.URL("apps/live.js")))
	// Output: <nil> /static/apps
}

func ExampleStatic_URL() {
	s := web.NewStatic("/static/", false)
	if err := s.Add("", fstest.MapFS{"boat.css": {Data: []byte("b{}")}}); err != nil {
		panic(err)
	}
	fmt.Printf("%s %q\n", s.URL("boat.css"), s.URL("ark.css"))
	// Output: /static/boat.ef2a875407ac.css ""
}

func ExampleStatic_ServeHTTP() {
	s := web.NewStatic("/static/", false)
	if err := s.Add("", fstest.MapFS{"boat.css": {Data: []byte("b{}")}}); err != nil {
		panic(err)
	}
	fmt.Println(ask(s, "GET", "/static/boat.css").Header.Get("Cache-Control")) // without the hash
	// Output:
	// 200 b{}
	// no-cache
}

func ExampleNewEvents() {
	app := web.New(web.Config{})
	app.Handle("GET /events", func(w http.ResponseWriter, r *http.Request) error {
		e, err := web.NewEvents(w, r)
		if err != nil {
			return err
		}
		if err := e.Ping(); err != nil {
			return err
		}
		return e.Send("launch", "7", []byte("sampan\nafter "+e.LastID()))
	})
	ask(app, "GET", "/events", "Last-Event-ID", "6")
	// Output:
	// 200 :
	//
	// event: launch
	// id: 7
	// data: sampan
	// data: after 6
}

func ExampleCompress() {
	h := web.Compress()(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, strings.Repeat("row, row, row your boat ", 100))
	}))
	w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Accept-Encoding", "gzip")
	h.ServeHTTP(w, r)
	fmt.Println(w.Header().Get("Content-Encoding"), w.Body.Len() < 200)
	// Output: gzip true
}

func ExampleError() {
	err := fmt.Errorf("launch: %w", web.Error(http.StatusConflict, "the %s is at sea", "boat"))
	fmt.Println(web.StatusOf(err), err)
	// Output: 409 launch: the boat is at sea
}

func ExampleStatusOf() {
	fmt.Println(web.StatusOf(errors.New("leak")), web.StatusOf(web.Error(http.StatusGone, "sunk")))
	// Output: 500 410
}

func ExampleShowError() {
	w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Accept", "application/json")
	web.ShowError(w, r, errors.New("what users must not see"))
	fmt.Print(w.Code, " ", w.Body)
	// Output: 500 {"message":"something went wrong","request":""}
}

func ExampleRequestID() {
	app := web.New(web.Config{})
	app.Handle("GET /{$}", func(w http.ResponseWriter, r *http.Request) error {
		_, err := fmt.Fprintln(w, web.RequestID(r.Context()) == w.Header().Get("X-Request-Id"))
		return err
	})
	ask(app, "GET", "/")
	// Output: 200 true
}

func ExampleOnDisk() {
	fsys := fstest.MapFS{"nothing-like-this-is-on-disk.html": {}}
	_, same := web.OnDisk(fsys, 0).(fstest.MapFS)
	fmt.Println(same)
	// Output: true
}
