package db_test

import (
	"strconv"
	"strings"
	"testing"

	"sampan.dev/sampan/internal/db"
)

func TestPlaceholdersAreNumbered(t *testing.T) {
	for query, want := range map[string]string{
		"SELECT 1":                            "SELECT 1",
		"a = ? AND b = ?":                     "a = $1 AND b = $2",
		"a = '?' AND b = ?":                   "a = '?' AND b = $1",
		"a = 'it''s ?' AND b = ?":             "a = 'it''s ?' AND b = $1",
		`"who?" = ? AND "a""?" = ?`:           `"who?" = $1 AND "a""?" = $2`,
		"? -- why?\n?":                        "$1 -- why?\n$2",
		"? /* why? /* deep? */ still? */ ?":   "$1 /* why? /* deep? */ still? */ $2",
		"? -- it's\n?":                        "$1 -- it's\n$2",
		"'open ?":                             "'open ?",
		"/* open ?":                           "/* open ?",
		"?-?/?":                               "$1-$2/$3",
		"名 = ? AND 'é?' = ?":                  "名 = $1 AND 'é?' = $2",
		"?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ? -- ": "$1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11 -- ",
	} {
		if got := db.Numbered(query); got != want {
			t.Errorf("%q became %q, want %q", query, got, want)
		}
	}
}

func TestWhatOnlyReads(t *testing.T) {
	for query, want := range map[string]bool{
		"SELECT 1":                                           true,
		"\n\t select\n1":                                     true,
		"-- a comment\n/* another */ (SELECT 1)":             true,
		"WITH a AS (SELECT 1) SELECT * FROM a":               true,
		"WITH a AS (SELECT 1) INSERT INTO b SELECT * FROM a": false,
		"INSERT INTO a VALUES (1) RETURNING id":              false,
		"update a set b = 1 returning id":                    false,
		"DELETE FROM a":                                      false,
		"PRAGMA x = 1":                                       false,
		"":                                                   false,
		"-- SELECT":                                          false,
	} {
		if got := db.Reads(query); got != want {
			t.Errorf("%q: %v", query, got)
		}
	}
}

// FuzzPlaceholder holds that nothing but placeholders changes, and that they count up.
func FuzzPlaceholder(f *testing.F) {
	for _, seed := range []string{"a = ? AND b = '?'", `"?"`, "-- ?\n?", "/* /* ? */ */ ?", "'", "$1 ?"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, query string) {
		db.Reads(query)
		got := db.Numbered(query)
		back, n := got, 0
		var b strings.Builder
		for i := 0; i < len(query); i++ {
			next := "$" + strconv.Itoa(n+1)
			if query[i] == '?' && strings.HasPrefix(back, next) {
				n++
				back = back[len(next):]
				b.WriteByte('?')
				continue
			}
			if back == "" || back[0] != query[i] {
				t.Fatalf("%q became %q", query, got)
			}
			b.WriteByte(query[i])
			back = back[1:]
		}
		if back != "" || b.String() != query {
			t.Fatalf("%q became %q", query, got)
		}
	})
}
