package web_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"sampan.dev/sampan/web"
)

// FuzzBind binds any query and body; what it lets through keeps the promises of Bind.
func FuzzBind(f *testing.F) {
	f.Add("q=oar&n=3", "name=ann&tag=a&tag=b&wait=3s", "application/x-www-form-urlencoded")
	f.Add("n=%zz", "--b\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\nann\r\n--b--", "multipart/form-data; boundary=b")
	type input struct {
		Query string        `query:"q" max:"10"`
		N     int8          `query:"n"`
		Name  string        `form:"name" required:"true"`
		Tags  []string      `form:"tag"`
		Wait  time.Duration `form:"wait"`
	}
	app := web.New(web.Config{MaxBody: 4096})
	var in input
	app.Handle("POST /{$}", func(w http.ResponseWriter, r *http.Request) error {
		in = input{}
		return web.Bind(r, &in)
	})
	f.Fuzz(func(t *testing.T, query, body, contentType string) {
		r := httptest.NewRequest("POST", "/", strings.NewReader(body))
		r.URL.RawQuery = query
		r.Header.Set("Content-Type", contentType)
		w := httptest.NewRecorder()
		app.ServeHTTP(w, r)
		switch w.Code {
		case http.StatusOK:
			if in.Name == "" || utf8.RuneCountInString(in.Query) > 10 || !utf8.ValidString(in.Query+in.Name+strings.Join(in.Tags, "")) {
				t.Errorf("let through %+v", in)
			}
		case http.StatusBadRequest, http.StatusRequestEntityTooLarge:
		default:
			t.Errorf("answered %d %s", w.Code, w.Body)
		}
	})
}

// FuzzCookie opens any cookie: it says what was sealed here or nothing.
func FuzzCookie(f *testing.F) {
	app := web.New(web.Config{Keys: [][]byte{bytes.Repeat([]byte{7}, 32)}})
	app.Handle("/{$}", func(w http.ResponseWriter, r *http.Request) error {
		s := web.SessionOf(r)
		if r.Method == "POST" {
			s.Set("name", "ann")
			return nil
		}
		w.Write([]byte(s.Get("name")))
		return nil
	})
	w := httptest.NewRecorder()
	app.ServeHTTP(w, httptest.NewRequest("POST", "/", nil))
	good := w.Result().Cookies()[0].Value
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add("")
	f.Fuzz(func(t *testing.T, value string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.AddCookie(&http.Cookie{Name: "session", Value: value})
		w := httptest.NewRecorder()
		app.ServeHTTP(w, r)
		if said := w.Body.String(); w.Code != 200 || said != "" && said != "ann" {
			t.Errorf("%q says %q", value, w.Body)
		}
	})
}

// FuzzAcceptLanguage always finds one of the languages that there are.
func FuzzAcceptLanguage(f *testing.F) {
	f.Add("zh-CN,zh;q=0.9,en;q=0.8")
	f.Add("en;q=NaN,*;q=-1,;;;q=")
	m := web.NewMessages("en", "zh")
	f.Fuzz(func(t *testing.T, header string) {
		if lang := m.Match(header); lang != "en" && lang != "zh" {
			t.Errorf("%q gives %q", header, lang)
		}
	})
}

// FuzzAcceptEncoding never uses an encoding that the header does not name.
func FuzzAcceptEncoding(f *testing.F) {
	f.Add("gzip;q=0.5, zstd;q=0.9")
	f.Add("gzip;q=0, *;q=1e-9")
	h := web.Compress()(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write(bytes.Repeat([]byte("text "), 400))
	}))
	f.Fuzz(func(t *testing.T, header string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Accept-Encoding", header)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		lower := strings.ToLower(header)
		switch got := w.Header().Get("Content-Encoding"); got {
		case "":
		case "gzip", "zstd":
			if !strings.Contains(lower, got) && !strings.Contains(lower, "*") {
				t.Errorf("%q gives %q", header, got)
			}
		default:
			t.Errorf("%q gives %q", header, got)
		}
	})
}

// FuzzMessages reads any file of messages.
func FuzzMessages(f *testing.F) {
	f.Add(`{"a": "A {0}", "b": {"one": "x", "other": "{0} y {1}"}}`)
	f.Fuzz(func(t *testing.T, file string) {
		m := web.NewMessages("en")
		if err := m.Add(mapFile("en.json", file)); err != nil {
			return
		}
		m.Locale("en").T("a", 1, "{0}")
		m.Locale("en").T("b", 1)
	})
}
