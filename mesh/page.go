package mesh

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"strings"
)

//go:embed page.html
var pageHTML string

func newPage() *template.Template { return template.Must(template.New("page").Parse(pageHTML)) }

// A problem is why a request gets an answer of ours instead of a backend's.
type problem struct {
	Status  int
	ID      string // the request's
	text    func(lang string) words
	backend error // for the log
}

// words are a problem in one language.
type words struct{ Title, Text, Hint string }

func (m *Mesh) unknownHost(w http.ResponseWriter, r *http.Request) {
	host := hostname(r.Host)
	m.show(w, r, problem{Status: http.StatusNotFound, ID: requestID(r), text: func(lang string) words {
		if lang == "zh" {
			return words{"没有应用使用 " + host, "这个地址指向本服务器，但这里没有使用此名称的应用或域名。",
				"如果它是您的应用：sampan apps 列出所有应用，sampan domains 管理域名。"}
		}
		return words{"No app answers at " + host, "The address leads to this server, but no app and no domain here has that name.",
			"If it should be yours: sampan apps lists the apps, sampan domains manages their domains."}
	}})
}

// starting answers on the main host until its pages are there.
func (m *Mesh) starting(w http.ResponseWriter, r *http.Request) {
	m.show(w, r, problem{Status: http.StatusServiceUnavailable, ID: requestID(r), text: func(lang string) words {
		if lang == "zh" {
			return words{"服务器正在启动", "页面马上就绪。", "请稍后刷新。"}
		}
		return words{"The server is starting", "Its pages will be there in a moment.", "Load this page again shortly."}
	}})
}

// badRequest says why in English and in Chinese.
func badRequest(why, zh string) problem {
	return problem{Status: http.StatusBadRequest, text: func(lang string) words {
		if lang == "zh" {
			return words{"无法转发此请求", zh, "请检查发送请求的程序。"}
		}
		return words{"This request cannot be forwarded", why, "Look at the program that sent it."}
	}}
}

// unavailable: no backend could be asked. With a cause all of them refused the connection.
func (e *exchange) unavailable(cause error) problem {
	if cause != nil {
		return e.broken(cause)
	}
	name, why := e.route.Name, e.route.Why
	return problem{Status: http.StatusServiceUnavailable, text: func(lang string) words {
		if lang == "zh" {
			return words{name + " 当前没有运行", or(why, "没有正在运行的实例。"), "如果它是您的应用：sampan ps 显示实例的状态。"}
		}
		return words{name + " is not running at the moment", or(why, "It has no running instance."),
			"If it is yours: sampan ps shows the state of its instances."}
	}}
}

// broken: a backend was there but gave no response.
func (e *exchange) broken(cause error) problem {
	name := e.route.Name
	return problem{Status: http.StatusBadGateway, backend: cause, text: func(lang string) words {
		if lang == "zh" {
			return words{name + " 没有响应", "应用的实例拒绝了连接，或在响应之前断开了连接。", "如果它是您的应用：sampan logs 显示它最后输出的内容。"}
		}
		return words{name + " did not answer", "An instance of the app refused the connection or ended it before answering.",
			"If it is yours: sampan logs shows what it said last."}
	}}
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// fail answers with a problem. The header must not have been sent.
func (e *exchange) fail(p problem) {
	p.ID = e.id
	e.status = p.Status
	if p.backend != nil {
		e.m.log.Debug("no response from a backend", "route", e.route.Name, "request", e.id, "error", p.backend)
	}
	if e.r.ProtoMajor == 1 && hasBody(e.r) && int64(len(e.body)) != e.in {
		e.w.Header().Set("Connection", "close") // what is left of the body is nobody's request
	}
	e.m.show(e.w, e.r, p)
}

// show writes a problem the way its reader understands: a page, JSON, gRPC's trailers, text.
func (m *Mesh) show(w http.ResponseWriter, r *http.Request, p problem) {
	said := p.text(language(r.Header.Get("Accept-Language")))
	h := w.Header()
	h.Set(requestIDHeader, p.ID)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if p.Status == http.StatusServiceUnavailable {
		h.Set("Retry-After", "2")
	}
	accept := r.Header.Get("Accept")
	switch {
	case isGRPC(r):
		showGRPC(h, said)
		w.WriteHeader(http.StatusOK)
	case strings.Contains(accept, "text/html"):
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
		h.Set("Vary", "Accept, Accept-Language")
		w.WriteHeader(p.Status)
		m.writePage(w, r, p, said)
	case strings.Contains(accept, "json"):
		h.Set("Content-Type", "application/json")
		w.WriteHeader(p.Status)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": said.Title, "detail": said.Text, "hint": said.Hint, "request": p.ID})
	default:
		h.Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(p.Status)
		fmt.Fprintf(w, "%s\n%s\n%s\n(%d, request %s)\n", said.Title, said.Text, said.Hint, p.Status, p.ID)
	}
}

func (m *Mesh) writePage(w http.ResponseWriter, r *http.Request, p problem, said words) {
	err := m.page.Execute(w, struct {
		words
		problem
		Lang string
	}{said, p, language(r.Header.Get("Accept-Language"))})
	if err != nil {
		m.log.Debug("a reader left", "error", err)
	}
}

// showGRPC answers UNAVAILABLE, in a header that is the trailer too.
func showGRPC(h http.Header, said words) {
	h.Set("Content-Type", "application/grpc")
	h.Set("Grpc-Status", strconv.Itoa(14))
	h.Set("Grpc-Message", said.Title)
}

// language is "zh" when the header prefers Chinese to English, else "en".
func language(accept string) string {
	best, weight := "en", -1.0
	for part := range strings.SplitSeq(accept, ",") {
		tag, params, _ := strings.Cut(strings.TrimSpace(part), ";")
		q := 1.0
		if s, ok := strings.CutPrefix(strings.TrimSpace(params), "q="); ok {
			q, _ = strconv.ParseFloat(s, 64)
		}
		lang, _, _ := strings.Cut(strings.ToLower(tag), "-")
		if (lang == "zh" || lang == "en") && q > weight && q > 0 {
			best, weight = lang, q
		}
	}
	return best
}
