package password

import (
	"context"
	"strings"
	"testing"
)

func TestAPasswordIsRecognised(t *testing.T) {
	h := NewHasher()
	ctx := t.Context()
	stored, err := h.Hash(ctx, "correct horse")
	if err != nil || !strings.HasPrefix(stored, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Fatalf("%q, %v", stored, err)
	}
	for _, test := range []struct {
		what, stored, password string
		ok                     bool
	}{
		{"the right one", stored, "correct horse", true},
		{"a wrong one", stored, "correct house", false},
		{"no account", "", "correct horse", false},
		{"no account and no password", "", "", false},
		{"the password of the dummy", h.dummy, "", false},
	} {
		ok, err := h.Verify(ctx, test.stored, test.password)
		if err != nil || ok != test.ok {
			t.Errorf("%s: %v, %v", test.what, ok, err)
		}
	}
	ended, stop := context.WithCancel(ctx)
	stop()
	h.turn <- struct{}{}
	h.turn <- struct{}{}
	if _, err := h.Verify(ended, stored, "x"); err == nil {
		t.Error("a request that has ended still waits")
	}
}

func FuzzParse(f *testing.F) {
	f.Add("$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Add("$argon2id$v=19$m=99999999,t=2,p=1$AAAA$AAAA")
	f.Fuzz(func(t *testing.T, text string) {
		h, err := parse(text)
		if err == nil && (h.memory > 64*1024 || h.passes > 16 || h.threads == 0 || len(h.key) < 16) {
			t.Errorf("%q was accepted as %+v", text, h)
		}
	})
}

func BenchmarkHash(b *testing.B) {
	h := NewHasher()
	for b.Loop() {
		if _, err := h.Hash(context.Background(), "correct horse"); err != nil {
			b.Fatal(err)
		}
	}
}
