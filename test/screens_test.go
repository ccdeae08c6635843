package test_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"sampan.dev/sampan/internal/ui/uitest"

	"sampan.dev/sampan/mesh/loadtest"
)

// A screen is a page to take a picture of: the one at path, or the one that a link of it
// leads to.
type screen struct {
	name, path string
	follow     string // a selector
	until      string // JavaScript: what must be true of the page first
	status     int64  // 0 is 200
}

func screens() []screen {
	return []screen{
		{name: "apps", path: "/-/apps"},
		{name: "app-new", path: "/-/apps/new"},
		{name: "app-never-deployed", path: "/-/apps/empty"},
		{name: "app-failed", path: "/-/apps/crash"},
		{name: "app-failed-build", path: "/-/apps/crash", follow: `main a[href*="/builds/"]`},
		{name: "app-logs", path: "/-/apps/hello/logs"},
		{name: "app-releases", path: "/-/apps/hello/releases"},
		{name: "app-build", path: "/-/apps/hello", follow: `main a[href*="/builds/"]`},
		{name: "app-settings", path: "/-/apps/hello/settings"},
		{name: "repos", path: "/"},
		{name: "repo-new", path: "/-/new"},
		{name: "repo-empty", path: "/ann/empty"},
		{name: "repo", path: "/ann/hello"},
		{name: "repo-file", path: "/ann/hello/blob/main/main.go"},
		{name: "repo-commits", path: "/ann/hello/commits/main"},
		{name: "repo-commit", path: "/ann/hello/commits/main", follow: `main a[href*="/commit/"]`},
		{name: "repo-branches", path: "/ann/hello/branches"},
		{name: "repo-settings", path: "/ann/hello/settings"},
		{name: "account", path: "/-/settings"},
		{name: "account-password", path: "/-/settings/password"},
		{name: "account-keys", path: "/-/settings/keys"},
		{name: "account-tokens", path: "/-/settings/tokens"},
		{name: "missing", path: "/nobody/nothing", status: 404},
		// Last, for its plots need time: two minutes of samples.
		{name: "app", path: "/-/apps/hello", until: `document.querySelector(".plot-line").getAttribute("d").split("L").length > 24`},
	}
}

// TestScreens takes a picture of every page, at two widths, light and dark and in Chinese,
// into the directory that SCREENS names. It fails when a page sticks out of the screen.
func TestScreens(t *testing.T) {
	dir := os.Getenv("SCREENS")
	if dir == "" {
		t.Skip("SCREENS is not set; make screenshots sets it")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	m := begin(t)
	c := camera{t: t, ctx: uitest.Browser(t), url: m.url(), dir: dir}
	c.all([]screen{{name: "sign-in", path: "/-/sign-in"}})

	scene(t, m)
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	load.Go(func() { visit(ctx, m) })
	link, err := m.sampan("ann", "link")
	if err != nil {
		t.Fatal(err)
	}
	c.visit(strings.TrimSpace(link))
	c.do(chromedp.Click(`form[action="/-/enter"] button`), chromedp.WaitReady(`form[action="/-/sign-out"]`))
	c.all(screens())
	stop()
	load.Wait()
}

// visit sends hello requests, now fewer and now more.
func visit(ctx context.Context, m *machine) {
	for n := 0; ctx.Err() == nil; n++ {
		wave, cancel := context.WithTimeout(ctx, 8*time.Second)
		loadtest.Run(wave, loadtest.Request{URL: "http://" + m.http + "/", Host: "hello.localhost"}, 10+n*13%40)
		cancel()
	}
}

// scene makes what the pages show: a repository that is an app with some releases, an app that
// crashes, an empty repository, an app that was never deployed.
func scene(t *testing.T, m *machine) {
	t.Helper()
	hello, crash := m.path("source-hello"), m.path("source-crash")
	ann := func(dir, name string, args ...string) {
		t.Helper()
		if _, err := m.run("ann", dir, name, args...); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range []string{"repo create hello", "repo create empty", "apps create hello --repo ann/hello",
		"apps create empty --no-remote", "apps create crash --no-remote"} {
		ann(m.dir, program, strings.Fields(args)...)
	}
	for name, dir := range map[string]string{"hello-go": hello, "crash": crash} {
		if err := m.example(name, dir); err != nil {
			t.Fatal(err)
		}
	}
	ann(hello, "git", "push", m.sshURL("ann/hello"), "main")
	ann(hello, "sed", "-i", "s/Hello from Sampan/Hello from 舢板/", "main.go")
	ann(hello, "git", "commit", "-q", "-a", "-m", "Greet in Chinese")
	ann(hello, "git", "push", m.sshURL("ann/hello"), "main", "main:next")
	ann(m.dir, program, "config", "set", "GREETING=Ahoy", "FEATURE_PLOTS=on", "-a", "hello")
	ann(m.dir, program, "scale", "web=2", "-a", "hello")
	ann(m.dir, program, "domains", "add", "hello.example.com", "-a", "hello")
	if out, err := m.run("ann", crash, "git", "push", m.sshURL("crash"), "main"); err == nil {
		t.Fatalf("an app that crashes was deployed:\n%s", out)
	}
}

// A camera takes pictures of a site.
type camera struct {
	t        *testing.T
	ctx      context.Context
	url, dir string
}

func (c camera) do(steps ...chromedp.Action[chromedp.Void]) {
	c.t.Helper()
	if err := chromedp.Do(c.ctx, steps...); err != nil {
		c.t.Fatal(err)
	}
}

// all takes pictures of pages in every look, which it chooses at the foot of a page as people do.
func (c camera) all(pages []screen) {
	for _, look := range []struct{ name, lang, theme string }{
		{"zh", "zh", "light"}, {"dark", "en", "dark"}, {"light", "en", "light"},
	} {
		c.visit(c.url + "/-/sign-in")
		for _, value := range []string{look.theme, look.lang} {
			if _, err := chromedp.RunResponse(c.ctx, chromedp.Click(`footer button[value="`+value+`"]`)); err != nil {
				c.t.Fatal(err)
			}
		}
		for _, s := range pages {
			c.open(s)
			for _, width := range []int64{360, 1440} {
				c.shoot(fmt.Sprintf("%s-%d-%s.png", s.name, width, look.name), width)
			}
		}
	}
}

// visit goes to an address. Chromium gives a page up when the machine's network changes, as
// it does whenever a container starts or ends; then it goes there again.
func (c camera) visit(address string) (status int64) {
	c.t.Helper()
	var lost error
	for begin := time.Now(); time.Since(begin) < time.Minute; {
		answer, err := chromedp.Run(c.ctx, chromedp.NavigateResponse(address))
		switch {
		case err == nil && answer != nil:
			return answer.Status
		case err != nil && !strings.Contains(err.Error(), "ERR_NETWORK_CHANGED"):
			c.t.Fatalf("%s: %v", address, err)
		}
		lost = err
	}
	c.t.Fatalf("%s has no answer: %v", address, lost)
	return 0
}

func (c camera) open(s screen) {
	c.t.Helper()
	address := c.url + s.path
	if s.follow != "" {
		c.visit(address)
		href, err := chromedp.Run(c.ctx, chromedp.Evaluate[string](`document.querySelector('`+s.follow+`').href`))
		if err != nil {
			c.t.Fatalf("%s has no %s: %v", s.path, s.follow, err)
		}
		address = href
	}
	if status := c.visit(address); status != max(s.status, 200) {
		c.t.Errorf("%s answers %d", address, status)
	}
	if s.until != "" {
		if _, err := chromedp.Run(c.ctx, chromedp.Poll[bool](s.until, chromedp.WithPollingTimeout(4*time.Minute))); err != nil {
			c.t.Errorf("%s does not show what was waited for: %v", address, err)
		}
	}
}

// shoot takes the picture of the open page at a width.
func (c camera) shoot(file string, width int64) {
	c.t.Helper()
	c.do(chromedp.EmulateViewport(width, 900))
	if wide, err := chromedp.Run(c.ctx, chromedp.Evaluate[int64](`document.documentElement.scrollWidth`)); err != nil || wide > width {
		c.t.Errorf("%s is %d pixels wide (%v)", file, wide, err)
	}
	png, err := chromedp.Run(c.ctx, chromedp.FullScreenshot(100))
	if err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.dir, file), png, 0o644); err != nil {
		c.t.Fatal(err)
	}
}
