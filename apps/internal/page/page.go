// Package page shows apps in the browser.
package page

import (
	"log/slog"

	"sampan.dev/sampan/apps/internal/platform"
	"sampan.dev/sampan/internal/ui"
	"sampan.dev/sampan/web"
)

// Pages are the pages below /-/apps.
type Pages struct {
	platform *platform.Platform
	ui       *ui.UI
	log      *slog.Logger
}

// New hands the pages to the site's look.
func New(p *platform.Platform, u *ui.UI, log *slog.Logger) (*Pages, error) {
	return &Pages{platform: p, ui: u, log: log}, nil
}

// Routes adds the pages.
func (p *Pages) Routes(app *web.App) {}
