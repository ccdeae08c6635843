package ui

import (
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"
	"time"

	"sampan.dev/sampan/web"
)

// Plot is a line over time.
type Plot struct {
	Title  string
	Unit   string        // "bytes", "%", "ms", "/s": how numbers are written
	Values []float64     // oldest first; NaN where nothing was measured
	Step   time.Duration // between two values
	Least  float64       // the scale reaches at least this
	Limit  float64       // drawn as a line of its own when not zero
}

// The drawing's own measures; it is stretched to the width that there is.
const plotWidth, plotHeight = 600.0, 100.0

// svg draws the plot. Labels are text beside the drawing, so that they keep their size.
func (p Plot) svg(l web.Locale) template.HTML {
	top := p.top()
	now, peak := p.summary()
	var b strings.Builder
	fmt.Fprintf(&b, `<figure class="plot"><figcaption><span>%s</span> <b>%s</b></figcaption><div class="plot-area">`,
		template.HTMLEscapeString(p.Title), p.text(now))
	fmt.Fprintf(&b, `<div class="plot-y" aria-hidden="true"><span>%s</span><span>%s</span><span>%s</span></div>`,
		p.text(top), p.text(top/2), p.text(0))
	label := l.T("ui.plot", p.Title, p.text(now), p.text(peak))
	fmt.Fprintf(&b, `<svg viewBox="0 0 %g %g" preserveAspectRatio="none" role="img" aria-label="%s">`, plotWidth, plotHeight, template.HTMLEscapeString(label))
	fmt.Fprintf(&b, `<path class="plot-grid" d="M0 .5H%gM0 %gH%gM0 %gH%g"/>`, plotWidth, plotHeight/2, plotWidth, plotHeight-.5, plotWidth)
	if p.Limit > 0 {
		y := plotHeight * (1 - p.Limit/top)
		fmt.Fprintf(&b, `<path class="plot-limit" d="M0 %.1fH%g"/>`, y, plotWidth)
	}
	line, area := trace(p.Values, top, plotWidth, plotHeight)
	fmt.Fprintf(&b, `<path class="plot-fill" d="%s"/><path class="plot-line" d="%s"/></svg>`, area, line)
	span := time.Duration(max(len(p.Values)-1, 0)) * p.Step
	fmt.Fprintf(&b, `<div class="plot-x" aria-hidden="true"><span>%s</span><span>%s</span></div></div></figure>`,
		template.HTMLEscapeString(since(l, span)), template.HTMLEscapeString(l.T("ui.plot.now")))
	return template.HTML(b.String())
}

func since(l web.Locale, span time.Duration) string {
	if span == 0 {
		return ""
	}
	if span < 2*time.Minute {
		return l.T("ui.plot.seconds", int(span/time.Second))
	}
	return l.T("ui.plot.minutes", int(span.Round(time.Minute)/time.Minute))
}

// summary is the last and the highest value.
func (p Plot) summary() (now, peak float64) {
	now = math.NaN()
	for _, v := range p.Values {
		if v == v {
			peak = max(peak, v)
			now = v
		}
	}
	return now, peak
}

// top is the upper end of the scale: a round number at or above all that is shown.
func (p Plot) top() float64 {
	_, peak := p.summary()
	peak = max(peak, p.Least, p.Limit)
	if peak <= 0 || math.IsInf(peak, 0) {
		return 1
	}
	base := 10.0
	if p.Unit == "bytes" {
		base = 1024
	}
	step := math.Pow(base, math.Floor(math.Log(peak)/math.Log(base)))
	rounds := []float64{1, 2, 4, 5, 8, 10}
	if p.Unit == "bytes" {
		rounds = []float64{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024}
	}
	for _, n := range rounds {
		if peak <= n*step*1.0001 {
			return n * step
		}
	}
	return peak
}

func (p Plot) text(v float64) string {
	if v != v || math.IsInf(v, 0) {
		return "–"
	}
	if p.Unit == "bytes" {
		return Bytes(v)
	}
	s := Number(int64(math.Round(v)))
	if v < 10 {
		s = strconv.FormatFloat(math.Round(v*100)/100, 'f', -1, 64)
	}
	if v == 0 || p.Unit == "" {
		return s
	}
	return s + " " + p.Unit
}

// trace is the path of a line, and of the area below it, broken where a value is NaN.
func trace(values []float64, top, width, height float64) (line, area string) {
	var l, a strings.Builder
	dx := width / float64(max(len(values)-1, 1))
	open, x := false, 0.0
	for i, v := range values {
		if v != v {
			if open {
				fmt.Fprintf(&a, "V%gZ", height)
			}
			open = false
			continue
		}
		x = width - float64(len(values)-1-i)*dx
		y := height * (1 - min(max(v, 0)/top, 1))
		if !open {
			fmt.Fprintf(&l, "M%.1f %.1fh0", x, y) // a value alone is a dot
			fmt.Fprintf(&a, "M%.1f %gV%.1f", x, height, y)
			open = true
			continue
		}
		fmt.Fprintf(&l, "L%.1f %.1f", x, y)
		fmt.Fprintf(&a, "L%.1f %.1f", x, y)
	}
	if open {
		fmt.Fprintf(&a, "V%gZ", height)
	}
	return l.String(), a.String()
}

// spark is a line as high as text, without axes: it says how, not how much.
func spark(values []float64) template.HTML {
	_, peak := Plot{Values: values}.summary()
	if peak == 0 {
		peak = 1
	}
	line, area := trace(values, peak*1.1, 80, 16)
	return template.HTML(fmt.Sprintf(`<svg class="spark" viewBox="0 0 80 16" preserveAspectRatio="none" aria-hidden="true">`+
		`<path class="plot-fill" d="%s"/><path class="plot-line" d="%s"/></svg>`, area, line))
}
