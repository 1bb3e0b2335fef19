package main

import (
	"bytes"
	"fmt"
	"html"
	"os"
	"time"
)

// The picture of a soak, in pixels: one panel for each curve, below each other.
const (
	plotLeft, plotTop    = 70, 60
	plotWidth, plotPitch = 760, 150
	plotHeight           = 110
)

// writeCurves writes the curves of a soak as SVG.
func writeCurves(path string, all []sample, lasts time.Duration) error {
	return os.WriteFile(path, drawCurves(all, lasts), 0o644)
}

func drawCurves(all []sample, lasts time.Duration) []byte {
	curves := append(watchedCurves[:len(watchedCurves):len(watchedCurves)],
		curve{name: "names of pods, vaults and objects so far", of: func(s sample) float64 { return s.Names }})
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n",
		plotLeft+plotWidth+30, plotTop+plotPitch*len(curves))
	fmt.Fprintln(&b, `<rect width="100%" height="100%" fill="white"/>`)
	fmt.Fprintf(&b, `<text x="%d" y="25" font-size="15">akv-csi-provider, %s of mixed load and faults</text>`+"\n", plotLeft, lasts)
	end := lasts
	if len(all) > 0 {
		end = max(end, all[len(all)-1].At)
	}
	for i, c := range curves {
		c.draw(&b, all, plotTop+i*plotPitch, lasts, end)
	}
	fmt.Fprintln(&b, `</svg>`)
	return b.Bytes()
}

// draw draws a panel: the frame, the quarters with the medians of the last two, and the line.
func (c curve) draw(b *bytes.Buffer, all []sample, top int, lasts, end time.Duration) {
	most := 1.0
	for _, s := range all {
		most = max(most, c.of(s))
	}
	x := func(at time.Duration) float64 { return plotLeft + plotWidth*float64(at)/float64(end) }
	y := func(v float64) float64 { return float64(top) + plotHeight*(1-v/most) }
	fmt.Fprintf(b, `<text x="%d" y="%d">%s</text>`+"\n", plotLeft, top-6, html.EscapeString(c.title()))
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="end">%.4g</text><text x="%d" y="%d" text-anchor="end">0</text>`+"\n",
		plotLeft-6, top+8, most, plotLeft-6, top+plotHeight)
	fmt.Fprintf(b, `<rect x="%d" y="%d" width="%d" height="%d" fill="none" stroke="#999"/>`+"\n", plotLeft, top, plotWidth, plotHeight)
	for q := 1; q <= quarters; q++ {
		at := lasts * time.Duration(q) / quarters
		fmt.Fprintf(b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#ddd"/>`, x(at), top, x(at), top+plotHeight)
		fmt.Fprintf(b, `<text x="%.1f" y="%d" text-anchor="middle" fill="#666">%s</text>`+"\n", x(at), top+plotHeight+14, at.Round(time.Second))
		if from := at - lasts/quarters; q > 2 && c.share > 0 {
			m := c.median(all, from, at)
			fmt.Fprintf(b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#c33" stroke-dasharray="4"/>`+"\n", x(from), y(m), x(at), y(m))
		}
	}
	fmt.Fprint(b, `<polyline fill="none" stroke="#247" points="`)
	for _, s := range all {
		fmt.Fprintf(b, "%.1f,%.1f ", x(s.At), y(c.of(s)))
	}
	fmt.Fprintln(b, `"/>`)
}

func (c curve) title() string {
	if c.unit == "" {
		return c.name
	}
	return c.name + ", " + c.unit
}
