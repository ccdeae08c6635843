// Package uitest opens pages in a headless Chromium, for tests of what only a browser shows.
package uitest

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// The headless shell is the smaller program of the two, and takes half the time.
var programs = []string{"chromium-headless-shell", "chromium"}

// Browser starts a Chromium that ends with the test, for chromedp to drive. Without one the
// test is skipped, but in CI it fails.
func Browser(t testing.TB, more ...chromedp.ExecAllocatorOption) context.Context {
	t.Helper()
	path := find(t)
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.UserDataDir(t.TempDir()), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.WSURLReadTimeout(time.Minute))
	ctx, end := context.WithTimeout(t.Context(), 4*time.Minute)
	t.Cleanup(end)
	ctx, end = chromedp.NewExecAllocator(ctx, append(options, more...)...)
	t.Cleanup(end)
	ctx, end = chromedp.NewContext(ctx)
	t.Cleanup(end)
	return ctx
}

func find(t testing.TB) string {
	t.Helper()
	for _, name := range programs {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("no Chromium is installed (Debian package %s)", programs[0])
	}
	t.Skipf("no Chromium is installed (Debian package %s)", programs[0])
	return ""
}
