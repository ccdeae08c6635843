package password_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"sampan.dev/sampan/internal/identity/internal/password"
)

func TestAPasswordIsRecognised(t *testing.T) {
	h := password.NewHasher()
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
	} {
		ok, err := h.Verify(ctx, test.stored, test.password)
		if err != nil || ok != test.ok {
			t.Errorf("%s: %v, %v", test.what, ok, err)
		}
	}
	if _, err := h.Verify(ctx, "$2y$10$rubbish", "x"); err == nil {
		t.Error("a hash of another kind is no error")
	}
}

func TestARequestThatEndedDoesNotWait(t *testing.T) {
	h := password.NewHasher()
	ctx, stop := context.WithCancel(t.Context())
	stop()
	free := password.Occupy(h)
	defer free()
	if _, err := h.Verify(ctx, "", "x"); !errors.Is(err, context.Canceled) {
		t.Errorf("it got %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Add("$argon2id$v=19$m=99999999,t=2,p=1$AAAA$AAAA")
	f.Fuzz(func(t *testing.T, text string) {
		memory, passes, err := password.Parse(text)
		if err == nil && (memory > 64*1024 || passes > 16) {
			t.Errorf("%q was accepted", text)
		}
	})
}

func BenchmarkHash(b *testing.B) {
	h := password.NewHasher()
	for b.Loop() {
		if _, err := h.Hash(context.Background(), "correct horse"); err != nil {
			b.Fatal(err)
		}
	}
}
