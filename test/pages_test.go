//go:build linux

package test_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// axe finds what keeps people with disabilities from using the open page: a line for each
// kind of serious or critical finding.
const axe = `axe.run(document, {resultTypes: ["violations"]}).then(found => found.violations
	.filter(v => v.impact === "serious" || v.impact === "critical")
	.map(v => v.id + ": " + v.nodes.map(n => n.target.join(" ")).join(", ")))`

// english are the texts of the open page that are not code, names, what people and programs
// wrote, or said to be English.
const english = `(() => {
	const data = "[translate=no], code, pre, .mono, .log, .markdown, .chroma, .diff, .tree, .crumbs, time, [lang=en], a[href^='http'], .meta, .brand, .foot > .soft, kbd, .plot, option";
	const texts = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	while (walk.nextNode()) {
		const text = walk.currentNode.textContent.trim();
		if (/[A-Za-z]{2}/.test(text) && !walk.currentNode.parentElement.closest(data)) texts.push(text);
	}
	return texts.concat([...document.querySelectorAll("[aria-label], [title], [placeholder]")].filter(e => !e.closest(data))
		.flatMap(e => [e.ariaLabel, e.title]).filter(text => text && /[A-Za-z]{2}/.test(text)));
})()`

// untranslated are the texts that are the same in every language.
var untranslated = []string{"SSH", "HTTP", "CPU", "README", "English"}

// named is what the scene calls its repositories, apps, processes and people.
var named = strings.Fields("ann Ann hello empty crash main next web v1 v2 v3 v4 FEATURE_PLOTS GREETING ann/hello ann/ laptop")

// axeSource is the program, which scripts/axe fetches once.
func axeSource(t *testing.T) string {
	t.Helper()
	if out, err := exec.Command("../scripts/axe").CombinedOutput(); err != nil {
		absent(t, fmt.Sprintf("axe-core cannot be installed: %v\n%s", err, out))
	}
	source, err := os.ReadFile("../.cache/axe/node_modules/axe-core/axe.min.js")
	if err != nil {
		t.Fatal(err)
	}
	return string(source)
}

// No page sticks out of a small screen, none keeps people with disabilities out, and Chinese
// pages speak Chinese.
func TestPages(t *testing.T) {
	t.Parallel()
	source := axeSource(t)
	m := newcomer(t)
	b := open(t, m)
	b.do("look through a small window", chromedp.EmulateViewport(360, 800))
	strangers := []screen{
		{name: "setup", path: "/-/setup?code=" + m.setup}, {name: "sign-in", path: "/-/sign-in"}, {name: "enter", path: "/-/enter?code=x"},
	}
	b.check(source, strangers)
	if err := m.login("ann"); err != nil {
		t.Fatal(err)
	}
	b.signIn("ann")
	b.check(source, []screen{{name: "no repositories", path: "/"}, {name: "no apps", path: "/-/apps"}})
	scene(t, m)
	b.check(source, screens())
}

// check checks pages in English and light, and in Chinese and dark.
func (b tab) check(source string, pages []screen) {
	b.Helper()
	for _, look := range []struct{ lang, theme string }{{"en", "light"}, {"zh", "dark"}} {
		b.goTo("/-/sign-in")
		b.send(`button[value="` + look.theme + `"]`)
		b.send(`button[value="` + look.lang + `"]`)
		for _, s := range pages {
			b.Run(s.name+" "+look.lang, func(t *testing.T) {
				tab{t, b.ctx, b.url}.checkPage(source, s, look.lang)
			})
		}
	}
}

func (b tab) checkPage(source string, s screen, lang string) {
	b.goTo(s.path)
	if s.follow != "" {
		b.goTo(evaluate[string](b, fmt.Sprintf(`document.querySelector(%q).href`, s.follow)))
	}
	if wide := evaluate[int](b, `document.documentElement.scrollWidth`); wide > 360 {
		b.Errorf("it is %d pixels wide", wide)
	}
	evaluate[any](b, source+"; 0")
	for _, found := range evaluate[[]string](b, axe, chromedp.EvalAwaitPromise) {
		b.Error(found)
	}
	if lang != "zh" {
		return
	}
	for _, text := range evaluate[[]string](b, english) {
		if !translated(text) {
			b.Errorf("%q is not Chinese", text)
		}
	}
}

// translated reports whether a text is Chinese, or the same in every language.
func translated(text string) bool {
	for _, r := range text {
		if r >= 0x4e00 && r <= 0x9fff {
			return true
		}
	}
	for _, word := range append(untranslated, named...) {
		if text == word {
			return true
		}
	}
	return false
}
