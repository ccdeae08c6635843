package container

import (
	"strings"

	"sampan.dev/sampan/internal/fault"
)

// usualKeys are those that leave a terminal without ending what runs in it.
const usualKeys = "ctrl-p,ctrl-q"

// parseKeys reads detach keys as in "ctrl-p,ctrl-q" or "a,b".
func parseKeys(text string) ([]byte, error) {
	if text == "" {
		text = usualKeys
	}
	var keys []byte
	for name := range strings.SplitSeq(text, ",") {
		key, ok := parseKey(name)
		if !ok {
			return nil, fault.Invalid("Invalid detach keys (%s) provided", text)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

func parseKey(name string) (byte, bool) {
	if len(name) == 1 && name[0] < 128 {
		return name[0], true
	}
	letter, ok := strings.CutPrefix(strings.ToLower(name), "ctrl-")
	if !ok || len(letter) != 1 {
		return 0, false
	}
	c := letter[0]
	if c >= 'a' && c <= 'z' {
		return c - 'a' + 1, true
	}
	i := strings.IndexByte(`@[\]^_`, c)
	if i < 0 {
		return 0, false
	}
	return []byte{0, 27, 28, 29, 30, 31}[i], true
}

// A watcher looks for keys that are pressed one after the other.
type watcher struct {
	keys []byte
	seen int // of the keys, which are held back
}

// pass appends to out what is not of the keys, and reports whether all of them were pressed.
// What was typed after them is dropped.
func (w *watcher) pass(out, typed []byte) ([]byte, bool) {
	for _, c := range typed {
		for w.seen > 0 && c != w.keys[w.seen] {
			out, w.seen = w.fail(out)
		}
		if c != w.keys[w.seen] {
			out = append(out, c)
			continue
		}
		w.seen++
		if w.seen == len(w.keys) {
			w.seen = 0
			return out, true
		}
	}
	return out, false
}

// fail lets go of as few held keys as leave a beginning of the keys.
func (w *watcher) fail(out []byte) ([]byte, int) {
	held := w.keys[:w.seen]
	for n := 1; n <= len(held); n++ {
		if strings.HasPrefix(string(w.keys), string(held[n:])) {
			return append(out, held[:n]...), len(held) - n
		}
	}
	return append(out, held...), 0
}
