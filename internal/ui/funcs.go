package ui

import (
	"fmt"
	"hash/fnv"
	"html/template"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"sampan.dev/sampan/web"
)

// funcs are what templates call, in one language.
func (u *UI) funcs(l web.Locale) template.FuncMap {
	return template.FuncMap{
		"dict":     dict,
		"list":     func(items ...any) []any { return items },
		"crumb":    func(text, url string) Crumb { return Crumb{text, url} },
		"tab":      func(text, url, icon string, current bool) Tab { return Tab{text, url, icon, current, 0} },
		"option":   func(value, text string) Option { return Option{value, text} },
		"icon":     u.icon,
		"asset":    u.static.URL,
		"ago":      func(t time.Time) template.HTML { return timeTag(t, Ago(l, t, time.Now())) },
		"date":     func(t time.Time) template.HTML { return timeTag(t, t.Format("2006-01-02 15:04")) },
		"clock":    func(t time.Time) string { return t.Format("15:04:05") },
		"bytes":    func(n any) string { return Bytes(toFloat(n)) },
		"num":      func(n any) string { return Number(int64(toFloat(n))) },
		"took":     Took,
		"percent":  func(f float64) string { return strconv.FormatFloat(f*100, 'f', 0, 64) + " %" },
		"short":    short,
		"avatar":   avatar,
		"spark":    spark,
		"plot":     func(p Plot) template.HTML { return p.svg(l) },
		"status":   func(s any) template.HTML { return status(l, fmt.Sprint(s)) },
		"plain":    Plain,
		"sentence": sentence,
	}
}

// dict gives a template several things by name.
func dict(pairs ...any) (map[string]any, error) {
	if len(pairs)%2 != 0 {
		return nil, fmt.Errorf("dict: %d names and values are not pairs", len(pairs))
	}
	m := make(map[string]any, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		name, ok := pairs[i].(string)
		if !ok {
			return nil, fmt.Errorf("dict: name %v is not a string", pairs[i])
		}
		m[name] = pairs[i+1]
	}
	return m, nil
}

func timeTag(t time.Time, text string) template.HTML {
	if t.IsZero() {
		return ""
	}
	return template.HTML(fmt.Sprintf(`<time datetime="%s" title="%s">%s</time>`,
		t.UTC().Format(time.RFC3339), t.Format("2006-01-02 15:04:05 MST"), template.HTMLEscapeString(text)))
}

// Ago says how long before now a time was. From a month on it is the date.
func Ago(l web.Locale, t, now time.Time) string {
	d := now.Sub(t)
	switch {
	case d < time.Minute:
		return l.T("ui.ago.now")
	case d < time.Hour:
		return l.T("ui.ago.minutes", int(d/time.Minute))
	case d < 24*time.Hour:
		return l.T("ui.ago.hours", int(d/time.Hour))
	case d < 30*24*time.Hour:
		return l.T("ui.ago.days", int(d/(24*time.Hour)))
	}
	return t.Format("2006-01-02")
}

// Bytes is a size with a binary unit: 1.5 MiB.
func Bytes(n float64) string {
	const units = "KMGTPE"
	if n < 1024 && n > -1024 {
		return strconv.FormatFloat(n, 'f', 0, 64) + " B"
	}
	i := -1
	for (n >= 1024 || n <= -1024) && i < len(units)-1 {
		n /= 1024
		i++
	}
	digits := 1
	if n >= 100 {
		digits = 0
	}
	return strings.TrimSuffix(strconv.FormatFloat(n, 'f', digits, 64), ".0") + " " + units[i:i+1] + "iB"
}

// Number is a whole number with its thousands apart.
func Number(n int64) string {
	s := strconv.FormatInt(n, 10)
	sign := ""
	if s[0] == '-' {
		sign, s = "-", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return sign + s
}

// Took is a duration as a person says it: 41 ms, 1.2 s, 3m 5s.
func Took(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return strconv.FormatInt(d.Microseconds(), 10) + " µs"
	case d < time.Second:
		return strconv.FormatInt(d.Milliseconds(), 10) + " ms"
	case d < 10*time.Second:
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + " s"
	case d < time.Minute:
		return strconv.FormatFloat(d.Seconds(), 'f', 0, 64) + " s"
	case d < time.Hour:
		return fmt.Sprintf("%dm %ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%dh %dm", int(d.Hours()), int(d.Minutes())%60)
}

func toFloat(n any) float64 {
	switch n := n.(type) {
	case int:
		return float64(n)
	case int32:
		return float64(n)
	case int64:
		return float64(n)
	case uint32:
		return float64(n)
	case uint64:
		return float64(n)
	case float64:
		return n
	}
	return 0
}

// short is the beginning of a commit's id.
func short(s string) string { return s[:min(len(s), 8)] }

// sentence begins with a capital, unless it begins with a name such as "ann/site" or "v12".
func sentence(s string) string {
	word, _, _ := strings.Cut(s, " ")
	if strings.ContainsFunc(word, func(r rune) bool { return !unicode.IsLower(r) && r != ',' }) {
		return s
	}
	r, size := utf8.DecodeRuneInString(s)
	if size == 0 {
		return s
	}
	return string(unicode.ToUpper(r)) + s[size:]
}

// avatar is the first letter of a name in a colour that is always the same for it.
func avatar(name string) template.HTML {
	first := "?"
	for _, r := range name {
		first = string(unicode.ToUpper(r))
		break
	}
	h := fnv.New32a()
	h.Write([]byte(name))
	return template.HTML(fmt.Sprintf(`<span class="avatar a%d" aria-hidden="true">%s</span>`, h.Sum32()%6, template.HTMLEscapeString(first)))
}

// status is a dot, told apart by form as well as by colour, and the word for it.
func status(l web.Locale, s string) template.HTML {
	switch s {
	case "running", "starting", "stopping", "stopped", "crashed", "failed", "waiting", "building", "done":
	default:
		s = "unknown"
	}
	return template.HTML(fmt.Sprintf(`<span class="status %s">%s</span>`, s, template.HTMLEscapeString(l.T("ui.status."+s))))
}
