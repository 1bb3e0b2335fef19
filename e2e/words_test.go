package e2e_test

import (
	"bytes"
	"go/scanner"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// wording has the words to avoid, and the phrases in which they are the usual ones.
type wording struct {
	avoid   []*regexp.Regexp
	instead []string
	usual   []*regexp.Regexp
}

func readWording(t *testing.T) wording {
	t.Helper()
	var w wording
	for line := range strings.Lines(read(t, "testdata/words.txt")) {
		line = strings.TrimSuffix(line, "\n")
		pattern, instead, ok := strings.Cut(line, "\t")
		switch phrase, usual := strings.CutPrefix(pattern, "!"); {
		case strings.HasPrefix(line, "#"):
		case usual:
			w.usual = append(w.usual, regexp.MustCompile("(?i)"+phrase))
		case !ok || instead == "":
			t.Fatalf("%q has no replacement", line)
		default:
			w.avoid = append(w.avoid, regexp.MustCompile("(?i)"+pattern))
			w.instead = append(w.instead, instead)
		}
	}
	if len(w.avoid) < 30 {
		t.Fatalf("%d words", len(w.avoid))
	}
	return w
}

// found is a word in a text, with the number of its line and what to write instead.
type found struct {
	word, instead string
	line          int
}

var (
	quoted = regexp.MustCompile("`[^`\n]+`")
	// wrap is a line break within prose or within a comment.
	wrap = regexp.MustCompile(`[ \t]*\n[ \t]*(?:(?://|#|\*|>) ?)?`)
)

// find returns the words in a text that begins in the given line. Names in backquotes are not prose.
func (w wording) find(text string, line int) []found {
	blank := func(s string) string { return strings.Repeat("_", len(s)) }
	text = quoted.ReplaceAllStringFunc(text, blank)
	// A wrap becomes a space and the rest of its length, so that offsets stay those of the text.
	joined := []byte(text)
	for _, at := range wrap.FindAllStringIndex(text, -1) {
		copy(joined[at[0]:], bytes.Repeat([]byte{0}, at[1]-at[0]))
		joined[at[0]] = ' '
	}
	lines := func(offset int) int { return line + strings.Count(text[:offset], "\n") }

	// The bytes of wraps are left out, and places has the offset of each byte that remains.
	var prose []byte
	var places []int
	for offset, b := range joined {
		if b != 0 {
			prose, places = append(prose, b), append(places, offset)
		}
	}
	for _, usual := range w.usual {
		prose = usual.ReplaceAllFunc(prose, func(s []byte) []byte { return bytes.Repeat([]byte("_"), len(s)) })
	}
	var all []found
	for i, avoid := range w.avoid {
		for _, at := range avoid.FindAllIndex(prose, -1) {
			all = append(all, found{string(prose[at[0]:at[1]]), w.instead[i], lines(places[at[0]])})
		}
	}
	return all
}

// comments are the comments of a Go file, by the line in which each begins. Comments on lines in a row
// are one, unless code is before them.
func comments(src []byte) map[int]string {
	file := token.NewFileSet().AddFile("", -1, len(src))
	var s scanner.Scanner
	s.Init(file, src, nil, scanner.ScanComments)
	texts, begin, next, statement := make(map[int]string), 0, 0, 0
	for {
		pos, tok, text := s.Scan()
		if tok == token.EOF {
			return texts
		}
		line := file.Line(pos)
		if tok != token.COMMENT {
			statement = line
			continue
		}
		if line == next && line != statement {
			texts[begin] += "\n" + text
		} else {
			begin = line
			texts[begin] += text
		}
		if next = line + strings.Count(text, "\n") + 1; line == statement {
			next = 0
		}
	}
}

// Documents, manifests, the texts of chart, alerts and policies, and the comments of the code use the
// words of the field.
func TestWords(t *testing.T) {
	w := readWording(t)
	files := 0
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if slices.Contains([]string{".git", "bin", "dist", "testdata"}, d.Name()) {
				return filepath.SkipDir
			}
			return nil
		}
		// The license and the code of conduct are others' texts.
		if slices.Contains([]string{"LICENSE", "CODE_OF_CONDUCT.md", ".git"}, d.Name()) || slices.Contains([]string{".sum", ".out", ".test"}, filepath.Ext(path)) {
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil || bytes.ContainsRune(src, 0) {
			return err
		}
		files++
		texts := map[int]string{1: string(src)}
		if filepath.Ext(path) == ".go" {
			texts = comments(src)
		}
		for line, text := range texts {
			for _, f := range w.find(text, line) {
				t.Errorf("%s:%d: %q: write: %s", path, f.line, f.word, f.instead)
			}
		}
		return nil
	})
	if err != nil || files < 300 {
		t.Errorf("%d files, %v", files, err)
	}
}

// What is found, and what is not.
func TestWording(t *testing.T) {
	w := readWording(t)
	for text, want := range map[string][]found{
		"While the vault is away.\n":                 {{"away", "", 7}},
		"a\n// b of its\n// own":                     {{"of its own", "", 8}},
		"# A flag is let\n  # pass.":                 {{"let pass", "", 7}},
		"moved away, a few steps away":               nil,
		"the log message `class let pass`":           nil,
		"a Secret holds the password; mend it":       {{"Secret holds", "", 7}, {"mend", "", 7}},
		"It signs in as the pod":                     nil,
		"whoever\n\nasks":                            {{"whoever", "", 7}},
		"the lock is held, and the invariant holds.": nil,
	} {
		got := w.find(text, 7)
		slices.SortFunc(got, func(a, b found) int { return strings.Index(text, a.word) - strings.Index(text, b.word) })
		for i := range got {
			got[i].instead = ""
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
	src := []byte("package x\n\n// one\n// two\nvar a = \"// three\" // four\n\n/* five\nsix */\n")
	if got := comments(src); len(got) != 3 || got[3] != "// one\n// two" || got[5] != "// four" || got[7] != "/* five\nsix */" {
		t.Errorf("got %v", got)
	}
}
