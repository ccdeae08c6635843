//go:build linux

package test_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"golang.org/x/sys/unix"

	"sampan.dev/sampan/internal/ui/uitest"
)

// A tab is a person's browser, which looks at the site of a machine.
type tab struct {
	*testing.T
	ctx context.Context
	url string
}

func open(t *testing.T, m *machine) tab {
	t.Helper()
	var options []chromedp.ExecAllocatorOption
	if os.Getuid() == 0 {
		options = append(options, chromedp.ModifyCmdFunc(alone(t, m)))
	}
	return tab{t, uitest.Browser(t, options...), m.url()}
}

// absent skips a test for which a program is missing; CI has them all.
func absent(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// alone has a program run in a network of its own, which holds nothing but the machine's HTTP
// port: Chromium gives up requests whenever an address comes or goes, and containers bring some.
func alone(t *testing.T, m *machine) func(*exec.Cmd) {
	t.Helper()
	space, l, err := emptyNetwork(port(m.http))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { space.Close() })
	var group sync.WaitGroup
	t.Cleanup(group.Wait)
	t.Cleanup(func() { l.Close() })
	group.Go(func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			group.Go(func() { splice(t.Context(), from, m.http) })
		}
	})
	return func(cmd *exec.Cmd) {
		cmd.Args = append([]string{"nsenter", fmt.Sprintf("--net=/proc/%d/fd/%d", os.Getpid(), space.Fd())}, cmd.Args...)
		cmd.Path, cmd.Err = exec.LookPath("nsenter")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	}
}

// emptyNetwork makes a network namespace and listens in it.
func emptyNetwork(port string) (space *os.File, l net.Listener, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return
		}
		if err = raiseLoopback(); err != nil {
			return
		}
		if l, err = net.Listen("tcp", "127.0.0.1:"+port); err == nil {
			space, err = os.Open("/proc/thread-self/ns/net")
		}
	}()
	<-done
	return space, l, err
}

func raiseLoopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}

// splice joins a connection with one to an address until either ends, or ctx does.
func splice(ctx context.Context, from net.Conn, address string) {
	defer from.Close()
	to, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer to.Close()
	stop := context.AfterFunc(ctx, func() { from.Close(); to.Close() })
	defer stop()
	var back sync.WaitGroup
	back.Go(func() {
		io.Copy(from, to)
		from.Close()
	})
	io.Copy(to, from)
	to.Close()
	back.Wait()
}

func (b tab) do(what string, steps ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	if err := chromedp.Do(b.ctx, steps...); err != nil {
		b.Fatalf("%s: %v\n%s", what, err, b.text())
	}
}

// goTo opens a page, at this site unless it names another.
func (b tab) goTo(address string) {
	b.Helper()
	if strings.HasPrefix(address, "/") {
		address = b.url + address
	}
	answer, err := chromedp.Run(b.ctx, chromedp.NavigateResponse(address))
	if err != nil {
		b.Fatalf("open %s: %v", address, err)
	}
	if answer.Status >= 500 {
		b.Errorf("%s answers %d:\n%s", address, answer.Status, b.text())
	}
}

// click clicks what a selector or XPath finds.
func (b tab) click(selector string) {
	b.Helper()
	b.do("click "+selector, chromedp.Click(selector))
}

// send clicks a button or a link and waits for the page that it leads to.
func (b tab) send(selector string) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	answer, err := chromedp.RunResponse(ctx, chromedp.Click(selector))
	if err != nil {
		b.Fatalf("click %s: %v\n%s", selector, err, b.text())
	}
	if answer.Status >= 400 {
		b.Fatalf("after a click on %s %s answers %d:\n%s", selector, answer.URL, answer.Status, b.text())
	}
}

// fill types into fields, which it finds by their names.
func (b tab) fill(fields ...string) {
	b.Helper()
	for i := 0; i < len(fields); i += 2 {
		at := `main [name="` + fields[i] + `"]:not([type=hidden])`
		b.do("type into "+fields[i], chromedp.WaitVisible(at),
			chromedp.Evaluate[chromedp.Void](`document.querySelector(`+strconv.Quote(at)+`).select()`), chromedp.SendKeys(at, fields[i+1]))
	}
}

// see waits until the page says something.
func (b tab) see(text string) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	at := fmt.Sprintf(`//main//*[contains(normalize-space(.), %q)]`, text)
	if err := chromedp.Do(ctx, chromedp.WaitReady(at)); err != nil {
		b.Fatalf("the page never says %q (%v):\n%s", text, err, b.text())
	}
}

func evaluate[T any](b tab, script string, options ...chromedp.EvaluateOption) T {
	b.Helper()
	value, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](script, options...))
	if err != nil {
		b.Fatalf("%s: %v", script[:min(len(script), 80)], err)
	}
	return value
}

// text is what the page says, for messages about failures.
func (b tab) text() string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(b.ctx), 5*time.Second)
	defer cancel()
	text, _ := chromedp.Run(ctx, chromedp.Evaluate[string](`location.href + "\n" + document.body.innerText`))
	return text
}

// signIn signs a person in with the password.
func (b tab) signIn(who string) {
	b.Helper()
	b.goTo("/-/sign-in")
	b.fill("name", who, "password", password(who))
	b.send(`main form button`)
	b.do("signed in", chromedp.WaitReady(`form[action="/-/sign-out"]`))
}

func (b tab) signOut() {
	b.Helper()
	b.click(`header.top details:last-of-type > summary`)
	b.send(`form[action="/-/sign-out"] button`)
	b.do("signed out", chromedp.WaitReady(`header.top a[href="/-/sign-in"]`))
}

// createRepo creates a repository of ann's and returns when its page shows.
func (b tab) createRepo(name string) {
	b.Helper()
	b.goTo("/-/new")
	b.fill("name", name, "description", "Says hello")
	b.send(`main form .primary`)
	b.see("ssh://git@")
}

// createApp creates an app that follows a repository of ann's.
func (b tab) createApp(name string) {
	b.Helper()
	b.goTo("/-/apps/new")
	b.fill("name", name, "repository", "ann/"+name, "branch", "main")
	b.send(`main form .primary`)
	b.see("ann/" + name)
}

func (b tab) rollback(version string) {
	b.Helper()
	b.goTo("/-/apps/hello/releases")
	b.send(`//form[contains(@action,"/rollback")][input[@value="` + version + `"]]//button`)
	b.see("Rolled back.")
	b.see("rolled back to v" + version)
}

// config sets a value on the page of the settings of hello.
func (b tab) config(key, value string) {
	b.Helper()
	b.goTo("/-/apps/hello/settings")
	add := `form:has(textarea[name="value"]) `
	b.do("type "+key, chromedp.SendKeys(add+`[name="key"]`, key), chromedp.SendKeys(add+`[name="value"]`, value))
	b.send(add + `.primary`)
	b.see("Released with the new configuration.")
}

// newcomer is a machine whose server runs and whose first person has an SSH key but no account.
func newcomer(t *testing.T) *machine {
	t.Helper()
	m, err := newMachine(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.end(); err != nil {
			t.Error(err)
		}
	})
	if err := m.start(os.Environ()); err != nil {
		t.Fatal(err)
	}
	if _, err := m.run("ann", m.dir, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", m.path("key-ann")); err != nil {
		t.Fatal(err)
	}
	return m
}

// setUp makes the first account by the link that the server printed.
func (b tab) setUp(m *machine) {
	b.Helper()
	b.goTo("/-/setup?code=" + m.setup)
	b.fill("name", "ann", "email", "ann@example.com", "password", password("ann"))
	b.send(`main form .primary`)
	b.do("signed in", chromedp.WaitReady(`form[action="/-/sign-out"]`))
}

func (b tab) addKey(m *machine) {
	b.Helper()
	key, err := os.ReadFile(m.path("key-ann.pub"))
	if err != nil {
		b.Fatal(err)
	}
	b.goTo("/-/settings/keys")
	b.fill("key", strings.TrimSpace(string(key)), "title", "laptop")
	b.send(`form[action="/-/settings/keys"] .primary`)
	b.see("SHA256:")
}

// pushExample pushes hello-go over SSH as ann.
func (b tab) pushExample(m *machine) {
	b.Helper()
	work := m.path("work")
	if err := m.example("hello-go", work); err != nil {
		b.Fatal(err)
	}
	if _, err := m.run("ann", work, "git", "push", m.sshURL("ann/hello"), "main"); err != nil {
		b.Fatal(err)
	}
}

// A person goes from the first-run link to a running app and back, in a browser but for the push.
func TestBrowser(t *testing.T) {
	t.Parallel()
	m := newcomer(t)
	b := open(t, m)
	b.setUp(m)
	b.signOut()
	b.signIn("ann")
	b.addKey(m)
	b.createRepo("hello")
	b.pushExample(m)
	b.goTo("/ann/hello")
	b.see("A web app in Go")
	b.createApp("hello")

	b.send(`form[action="/-/apps/hello/deploy"] button`)
	b.see("deployed in")
	b.do("it runs", chromedp.WaitReady(`h1 .status.running`))

	b.goTo("/-/apps/hello/logs")
	evaluate[bool](b, `window.stayed = true`)
	if status, _, err := m.get("hello", "/seen-in-the-browser"); err != nil || status != http.StatusNotFound {
		t.Fatalf("hello answers %d, %v", status, err)
	}
	b.see("path=/seen-in-the-browser")
	if !evaluate[bool](b, `window.stayed === true`) {
		t.Error("the page of the logs was loaded again to show a line")
	}

	b.config("GREETING", "Ahoy")
	b.see("GREETING")
	b.rollback("2")
	b.goTo("/-/apps/hello/settings")
	if strings.Contains(b.text(), "GREETING") {
		t.Error("the rollback did not bring the configuration of v2 back")
	}
	b.click(`details.danger > summary`)
	b.fill("confirm", "hello")
	b.send(`details.danger button`)
	b.see("hello was destroyed.")
	if status, _, err := m.get("hello", "/"); err != nil || status != http.StatusNotFound {
		t.Errorf("the destroyed app answers %d, %v", status, err)
	}
	b.signOut()
}

// All that is needed works in a browser that runs no script.
func TestBrowserWithoutScript(t *testing.T) {
	t.Parallel()
	m := newcomer(t)
	b := open(t, m)
	b.do("start", chromedp.Navigate("about:blank"))
	off := emulation.SetScriptExecutionDisabledParams{Value: true}
	if _, err := chromedp.Call(b.ctx, emulation.SetScriptExecutionDisabled, off); err != nil {
		t.Fatal(err)
	}
	b.setUp(m)
	b.signOut()
	b.signIn("ann")
	b.addKey(m)
	b.createRepo("hello")
	b.createApp("hello")
	b.pushExample(m)
	b.goTo("/-/apps/hello")
	b.see("deployed in")
	b.config("GREETING", "Ahoy")
	b.rollback("2")
}
