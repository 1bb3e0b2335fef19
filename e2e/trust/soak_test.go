package main

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A minute has every trouble in each quarter. What the machine decides on, times and the last
// megabyte, is judged in a soak that takes longer.
func TestSoak(t *testing.T) {
	curves := filepath.Join(t.TempDir(), "soak.svg")
	code, out, progress := trust(t, attacks(), "--json", "--soak=1m", "--curves="+curves)
	var results []result
	if err := json.Unmarshal([]byte(out), &results); err != nil || len(results) != 2 || code == exitUsage {
		t.Fatalf("code %d, %v\n%s\n%s", code, err, out, progress)
	}
	r := results[1]
	if r.Error != "" || r.Killed != "" || r.Wrong > 0 || r.Unnamed > 0 || r.Mounts < 100 || r.Attempts < 100 {
		t.Errorf("got %+v", r)
	}
	for _, c := range watchedCurves {
		if !strings.Contains(strings.Join(r.Notes, "\n"), c.name+": ") {
			t.Errorf("nothing about %s in %q", c.name, r.Notes)
		}
	}
	text, err := os.ReadFile(curves)
	if err != nil {
		t.Fatal(err)
	}
	for name, points := range polylines(t, text) {
		if points < 20 {
			t.Errorf("%s has %d points", name, points)
		}
	}
}

// polylines are the numbers of points of all curves of a picture, by their titles.
func polylines(t *testing.T, svg []byte) map[string]int {
	t.Helper()
	found, title := map[string]int{}, ""
	for d := xml.NewDecoder(strings.NewReader(string(svg))); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch e := token.(type) {
		case xml.CharData:
			if s := string(e); strings.Contains(string(svg), `">`+s+"</text>\n<text") && len(s) > 7 {
				title = s
			}
		case xml.StartElement:
			for _, a := range e.Attr {
				if e.Name.Local == "polyline" && a.Name.Local == "points" {
					found[title] = len(strings.Fields(a.Value))
				}
			}
		}
	}
	if len(found) != len(watchedCurves)+1 {
		t.Errorf("%d curves: %v", len(found), found)
	}
	return found
}

// steady are samples of an hour and a rest in which nothing grows, but for what edit changes.
func steady(edit func(at float64, s *sample)) []sample {
	var all []sample
	for at := time.Duration(0); at < time.Hour+rest; at += 20 * time.Second {
		s := sample{At: at, Goroutines: 50, Files: 30, RSS: 60, Heap: 30, Names: at.Seconds()}
		if at > 0 && at < time.Hour {
			s.Goroutines, s.Files = 300, 150
		}
		edit(at.Hours(), &s)
		all = append(all, s)
	}
	return all
}

func TestSoakIsJudged(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(at float64, s *sample)
		want string // of what is broken; "" for nothing
	}{
		{"flat", func(float64, *sample) {}, ""},
		{"fills its caches first", func(at float64, s *sample) { s.Heap, s.RSS = s.Heap+20*min(at, 0.5), s.RSS+30*min(at, 0.5) }, ""},
		{"a peak", func(at float64, s *sample) {
			if at > 0.9 && at < 0.92 {
				s.RSS, s.Heap, s.Goroutines = 300, 200, 5000
			}
		}, ""},
		{"600 bytes for each of 30,000 names", func(at float64, s *sample) { s.Heap += at * 30000 * 600 / (1 << 20) }, "heap after a collection: not flat"},
		{"memory", func(at float64, s *sample) { s.RSS += 40 * at }, "memory (RSS): not flat"},
		{"goroutines", func(at float64, s *sample) { s.Goroutines += 400 * at }, "goroutines: not flat"},
		{"descriptors", func(at float64, s *sample) { s.Files += 200 * at }, "open files: not flat"},
		{"goroutines that stay", func(at float64, s *sample) {
			if at > 1 {
				s.Goroutines = 300
			}
		}, "goroutines: 50 before the troubles, 300 1m40s after"},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := &soaking{siege: new(siege)}
			k.samples.all = steady(c.edit)
			k.judge(time.Hour)
			got := strings.Join(k.broken, "; ")
			if c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
			polylines(t, drawCurves(k.samples.all, time.Hour))
		})
	}
}

// The quarters of a soak are alike: each has every trouble equally often.
func TestTroublesFitIntoQuarters(t *testing.T) {
	for _, lasts := range []time.Duration{time.Second, time.Minute, 50 * time.Minute, time.Hour, 8 * time.Hour} {
		n := slots(lasts)
		if n < quarters*len(troubles()) || n%(quarters*len(troubles())) != 0 {
			t.Errorf("%s has %d slots", lasts, n)
		}
		if slot := lasts / time.Duration(n); lasts >= time.Hour && (slot < 10*time.Second || slot > 25*time.Second) {
			t.Errorf("of %s, a trouble lasts %s", lasts, slot)
		}
	}
}

func TestNumber(t *testing.T) {
	if n, err := number("a\n# HeapAlloc = 123\nb", "# HeapAlloc = "); n != 123 || err != nil {
		t.Errorf("got %v, %v", n, err)
	}
	for _, text := range []string{"", "# HeapAlloc = ", "# HeapAlloc = x"} {
		if _, err := number(text, "# HeapAlloc = "); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}
