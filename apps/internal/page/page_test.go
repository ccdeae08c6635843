package page_test

import (
	"testing"

	"sampan.dev/sampan/apps/internal/page"
	"sampan.dev/sampan/internal/ui"
)

func TestPagesAndMessagesAreComplete(t *testing.T) {
	u := ui.New(ui.Config{})
	if _, err := page.New(nil, u, nil); err != nil {
		t.Fatal(err)
	}
	if err := u.Check(); err != nil {
		t.Error(err)
	}
}
