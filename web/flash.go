package web

import (
	"net/http"
	"strings"
)

// A Notice is a message that the next page shows once.
type Notice struct{ Kind, Text string }

const flashKey = "flash"

// Flash leaves a notice for the next page that this browser is shown. The kind is the
// site's own ("done", "error").
func Flash(r *http.Request, kind, text string) {
	s := SessionOf(r)
	notice := flashClean(kind) + "\x1f" + flashClean(text)
	if old := s.Get(flashKey); old != "" {
		notice = old + "\x1e" + notice
	}
	s.Set(flashKey, notice)
}

// flashClean takes out the two separators and keeps a notice from filling the cookie.
func flashClean(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == '\x1e' || r == '\x1f' {
			return -1
		}
		return r
	}, s)
	const most = 500
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// Notices are those left by Flash; asking takes them away. Ask before the answer's first byte.
func Notices(r *http.Request) []Notice {
	s := SessionOf(r)
	kept := s.Get(flashKey)
	if kept == "" {
		return nil
	}
	s.Delete(flashKey)
	var list []Notice
	for part := range strings.SplitSeq(kept, "\x1e") {
		kind, text, _ := strings.Cut(part, "\x1f")
		list = append(list, Notice{kind, text})
	}
	return list
}
