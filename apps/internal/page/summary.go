package page

import (
	"regexp"
	"strings"

	"sampan.dev/sampan/apps/internal/catalog"
	"sampan.dev/sampan/web"
)

// acts are what summaries of releases say that somebody did.
var acts = regexp.MustCompile(`(^|, )(created initial release|deployed|rolled back to|added|changed limits for memory|` +
	`changed limits for cpu|changed tags|changed registry info|changed healthcheck info|changed|deleted)( |,|$)`)

// translate says the summaries in a page's language. They are stored in English, for the
// clients of the controller API read them, too.
func translate(l web.Locale, releases []catalog.Release) []catalog.Release {
	for i := range releases {
		author, did, _ := strings.Cut(releases[i].Summary, " ")
		releases[i].Summary = author + " " + acts.ReplaceAllStringFunc(did, func(m string) string {
			part := acts.FindStringSubmatch(m)
			return part[1] + l.T("app.act."+strings.ReplaceAll(part[2], " ", "-")) + part[3]
		})
	}
	return releases
}
