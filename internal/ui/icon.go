package ui

import (
	"fmt"
	"html/template"
	"io/fs"
	"strings"
)

// readIcons reads a file of lines "name drawing", the drawing being SVG in a square of 16.
func readIcons(fsys fs.FS, name string) (map[string]template.HTML, error) {
	b, err := fs.ReadFile(fsys, name)
	if err != nil {
		return nil, err
	}
	icons := map[string]template.HTML{}
	for line := range strings.Lines(string(b)) {
		name, drawing, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			return nil, fmt.Errorf("icon %q has no drawing", name)
		}
		icons[name] = template.HTML(`<svg class="icon" viewBox="0 0 16 16" aria-hidden="true">` + drawing + `</svg>`)
	}
	return icons, nil
}

// icon is a drawing that goes with words; alone it needs an aria-label around it.
func (u *UI) icon(name string) (template.HTML, error) {
	if name == "" {
		return "", nil
	}
	svg, ok := u.icons[name]
	if !ok {
		return "", fmt.Errorf("there is no icon %q", name)
	}
	return svg, nil
}
