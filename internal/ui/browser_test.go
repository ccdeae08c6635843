package ui_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"

	"sampan.dev/sampan/internal/ui"
	"sampan.dev/sampan/internal/ui/uitest"
	"sampan.dev/sampan/web"
)

// TestBrowser looks at what only a browser shows: that scripts work under the content
// security policy, and that no page is wider than a telephone.
func TestBrowser(t *testing.T) {
	s, ctx := newSite(t), uitest.Browser(t)
	do := func(t *testing.T, steps ...chromedp.Action[chromedp.Void]) {
		t.Helper()
		if err := chromedp.Do(ctx, steps...); err != nil {
			t.Fatal(err)
		}
	}
	holds := func(t *testing.T, expression string) bool {
		t.Helper()
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool](expression))
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	becomes := func(t *testing.T, expression string) {
		t.Helper()
		if _, err := chromedp.Run(ctx, chromedp.Poll[bool](expression)); err != nil {
			t.Fatal(err)
		}
	}

	t.Run("nothing sticks out at 360 pixels", func(t *testing.T) {
		for _, path := range []string{"/repo", "/-/apps/hello", "/form", "/fault", "/form?stranger=1"} {
			do(t, chromedp.EmulateViewport(360, 740, chromedp.EmulateMobile), chromedp.Navigate(s.URL+path))
			if !holds(t, `document.documentElement.scrollWidth <= 360`) {
				t.Errorf("%s is wider", path)
			}
		}
	})
	t.Run("a log follows its stream", func(t *testing.T) {
		do(t, chromedp.EmulateReset(), chromedp.Navigate(s.URL+"/-/apps/hello?live"))
		s.events <- func(e *web.Events) error {
			return ui.SendLine(e, "1", ui.LogLine{Source: "web.2", Text: "a <b>new</b> line"})
		}
		becomes(t, `document.querySelector(".log").innerText.includes("web.2 a <b>new</b> line")`)
	})
	t.Run("a fragment is replaced when its event comes", func(t *testing.T) {
		s.version.Store(42)
		s.events <- func(e *web.Events) error { return e.Send("fresh", "", nil) }
		becomes(t, `document.getElementById("version").textContent === "42"`)
	})
	t.Run("copy buttons appear and the theme can be changed", func(t *testing.T) {
		do(t, chromedp.Navigate(s.URL+"/form"), chromedp.WaitVisible("button.copy"),
			chromedp.Click(`button[value="dark"]`), chromedp.WaitReady(`html[data-theme="dark"]`))
	})
	t.Run("a flash is shown once, as text", func(t *testing.T) {
		const there = `document.body.innerText.includes("The <b>release</b> is out")`
		do(t, chromedp.Click(`form[action="/flash"] button`), chromedp.WaitVisible(".alert.done"))
		becomes(t, there)
		do(t, chromedp.Reload())
		if holds(t, there) {
			t.Error("it was shown again")
		}
	})
}

// TestScreens writes pictures of the demo pages into the directory that SCREENS names.
func TestScreens(t *testing.T) {
	dir := os.Getenv("SCREENS")
	if dir == "" {
		t.Skip("SCREENS is not set")
	}
	s, ctx := newSite(t), uitest.Browser(t)
	for _, width := range []int64{360, 1440, 1920} {
		for _, theme := range []string{"light", "dark"} {
			err := chromedp.Do(ctx, chromedp.Navigate(s.URL+"/form"), chromedp.Click(`button[value="`+theme+`"]`),
				chromedp.WaitReady(`html[data-theme="`+theme+`"]`), chromedp.EmulateViewport(width, 900))
			if err != nil {
				t.Fatal(err)
			}
			for _, page := range []string{"/repo", "/-/apps/hello", "/form", "/fault"} {
				if err := chromedp.Do(ctx, chromedp.Navigate(s.URL+page)); err != nil {
					t.Fatal(err)
				}
				png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
				if err != nil {
					t.Fatal(err)
				}
				name := filepath.Join(dir, fmt.Sprintf("%s-%d-%s.png", filepath.Base(page), width, theme))
				if err := os.WriteFile(name, png, 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}
