package db

import (
	"strconv"
	"strings"
)

// numbered turns each ? into $1, $2, … and leaves strings, quoted names and comments alone.
// Strings follow the standard (” is a quote, \ is a character); comments nest as in
// PostgreSQL. Dollar quotes and the ? operators of PostgreSQL are not portable SQL.
func numbered(query string) string {
	if !strings.Contains(query, "?") {
		return query
	}
	var b strings.Builder
	b.Grow(len(query) + 16)
	for i, n := 0, 0; i < len(query); {
		if query[i] == '?' {
			n++
			b.WriteByte('$')
			b.WriteString(strconv.Itoa(n))
			i++
			continue
		}
		end := i + span(query[i:])
		b.WriteString(query[i:end])
		i = end
	}
	return b.String()
}

// span is the length of the literal, name, comment or single byte that s begins with.
func span(s string) int {
	switch {
	case s[0] == '\'' || s[0] == '"':
		return quoted(s)
	case strings.HasPrefix(s, "--"):
		if i := strings.IndexByte(s, '\n'); i >= 0 {
			return i
		}
		return len(s)
	case strings.HasPrefix(s, "/*"):
		return comment(s)
	}
	return 1
}

func quoted(s string) int {
	for i := 1; i < len(s); i++ {
		if s[i] == s[0] {
			if i+1 == len(s) || s[i+1] != s[0] {
				return i + 1
			}
			i++
		}
	}
	return len(s)
}

func comment(s string) int {
	depth := 0
	for i := 0; i+1 < len(s); i++ {
		switch s[i : i+2] {
		case "/*":
			depth++
			i++
		case "*/":
			depth--
			i++
			if depth == 0 {
				return i + 1
			}
		}
	}
	return len(s)
}

// reads reports that a query only reads, so that any connection may run it.
func reads(query string) bool {
	for query != "" {
		switch c := query[0]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '(':
			query = query[1:]
		case strings.HasPrefix(query, "--") || strings.HasPrefix(query, "/*"):
			query = query[span(query):]
		default:
			word, _, _ := strings.Cut(query, " ")
			return len(word) >= 6 && strings.EqualFold(word[:6], "SELECT") || cteReads(query)
		}
	}
	return false
}

// cteReads recognises WITH … SELECT: a WITH that names no writing statement anywhere.
func cteReads(query string) bool {
	if len(query) < 4 || !strings.EqualFold(query[:4], "WITH") {
		return false
	}
	upper := strings.ToUpper(query)
	for _, word := range [...]string{"INSERT", "UPDATE", "DELETE"} {
		if strings.Contains(upper, word) {
			return false
		}
	}
	return true
}
