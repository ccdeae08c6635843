package node_test

import (
	"strings"
	"testing"

	"sampan.dev/sampan/build/internal/node"
)

func TestRange(t *testing.T) {
	for _, c := range []struct{ text, in, out string }{
		{"", "1.0.0 22.1.3", ""},
		{"*", "1.0.0", ""},
		{"20", "20.0.0 20.9.1", "19.9.9 21.0.0"},
		{"20.x", "20.0.0", "21.0.0"},
		{">=20", "20.0.0 26.1.0", "19.9.9"},
		{">= 18 < 21", "18.0.0 20.9.9", "21.0.0 17.0.0"},
		{"^18.12.0 || ^20.9.0 || >=22", "18.12.0 20.9.0 22.0.0", "18.11.9 21.0.0 19.0.0"},
		{"~20.9", "20.9.0 20.9.5", "20.10.0"},
		{"~20", "20.9.0", "21.0.0"},
		{"18 - 20", "18.0.0 20.11.0", "21.0.0"},
		{"18.1.2 - 20.3.4", "20.3.4", "20.3.5 18.1.1"},
		{">20", "21.0.0", "20.11.0"},
		{"<=20.1", "20.1.9", "20.2.0"},
		{"=20.1.2", "20.1.2", "20.1.3"},
		{"^0.10.3", "0.10.9", "0.11.0"},
	} {
		r, err := node.ParseRange(c.text)
		if err != nil {
			t.Errorf("%q: %v", c.text, err)
		}
		for want, list := range map[bool]string{true: c.in, false: c.out} {
			for _, s := range strings.Fields(list) {
				if v, ok := node.ParseVersion(s); !ok || r.Has(v) != want {
					t.Errorf("%q has %s: want %v", c.text, s, want)
				}
			}
		}
	}
}

func TestRangeRefuses(t *testing.T) {
	for _, text := range []string{"latest", ">=a", "20 || b", "1.2.3.4", strings.Repeat("1", 2000), "99999999999999999999"} {
		if _, err := node.ParseRange(text); err == nil {
			t.Errorf("%.40q is taken", text)
		}
	}
}

func TestBestTakesLinesWithLongSupport(t *testing.T) {
	var all []node.Version
	for _, s := range []string{"20.1.0", "22.3.0", "22.10.1", "23.1.0"} {
		v, _ := node.ParseVersion(s)
		all = append(all, v)
	}
	for text, want := range map[string]string{">=20": "22.10.1", "23.x": "23.1.0", "20 || 23": "20.1.0"} {
		r, _ := node.ParseRange(text)
		if v, ok := r.Best(all); !ok || v.String() != want {
			t.Errorf("%s: got %s, want %s", text, v, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`{"name":"x","engines":{"node":">=20 <23 || 18.x"},"scripts":{"start":"node ."}}`)
	f.Add(`{"engines":["node"]}`)
	f.Fuzz(func(t *testing.T, text string) {
		p, err := node.Parse([]byte(text))
		if err != nil {
			return
		}
		r, err := node.ParseRange(p.Engines.Node)
		if err != nil {
			t.Errorf("%q was taken, and then not: %v", text, err)
		}
		r.Has(node.Version{20, 1, 2})
	})
}
