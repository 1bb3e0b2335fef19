package server_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// Lengths of the messages that users read, in characters. kubelet cuts an event at 1024 bytes, of
// which its own words and the driver's take up to 417, and two failures may be joined.
const (
	maxMeanText = 170 // of the distinct texts, each without its reason
	maxText     = 400 // of each message, with its reason
)

var (
	bracketed  = regexp.MustCompile(` \[[A-Z][A-Za-z]+\]`)
	backquoted = regexp.MustCompile("`[^`]*`")
	flagName   = regexp.MustCompile(`(?:^|[ (])--[a-z]`)
	command    = regexp.MustCompile(`\b(?:az|kubectl|helm) [a-z]`)
	// dialect has the words that a reader of this field does not expect, or not in this sense.
	dialect = regexp.MustCompile(`(?i)\b(?:tells?|told|mend|anew|heeds?|whoever|away|holds|spread|looks? at|looked at|let pass|signs? in|` +
		`as it stands|leads to|gave up|broke off|is tried again|next mount|answers|sent|does not (?:take|give|count)|goes with|go with|` +
		`makes? (?:two|it|one)|names? no|private side|way to|on the way|asks? for|refuses?|usable|of its own|` +
		`may not)\b`) // which can mean "might not"
	// granting changes rights or settings in Azure.
	granting = regexp.MustCompile("`az [^`]*\\b(?:create|set-policy|reset|update|register|assign)\\b[^`]*`")
	// actor is a word for who can do what follows, where authors of classes mostly cannot.
	actor  = regexp.MustCompile(`\w+ (?:admin|administrator|operator):`)
	actors = []string{"Azure admin:", "Entra admin:", "cluster operator:"}
)

// A text is short, in the words of the field, has its commands in backquotes, and marks what only
// the operator of the cluster or an administrator of Azure or Entra can do.
func TestMessagesAreReadable(t *testing.T) {
	golden, err := os.ReadFile(filepath.Join("testdata", "messages.golden"))
	if err != nil {
		t.Fatal(err)
	}
	texts, total := make(map[string]bool), 0
	for line := range strings.Lines(string(golden)) {
		message, indented := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "    ")
		if !indented {
			continue
		}
		_, message, _ = strings.Cut(message, "  ") // the code
		if n := utf8.RuneCountInString(message); n > maxText {
			t.Errorf("%d characters, at most %d: %s", n, maxText, message)
		}
		text := bracketed.ReplaceAllString(message, "")
		prose := backquoted.ReplaceAllString(text, "")
		if word := dialect.FindString(prose); word != "" {
			t.Errorf("%q is not what this field says: %s", word, message)
		}
		if word := command.FindString(prose); word != "" {
			t.Errorf("the command %q is not in backquotes: %s", word, message)
		}
		for part := range strings.SplitSeq(text, " | ") {
			for _, word := range actor.FindAllString(part, -1) {
				if !slices.Contains(actors, word) {
					t.Errorf("%q is none of %q: %s", word, actors, message)
				}
			}
			for _, at := range granting.FindAllStringIndex(part, -1) {
				before := actor.FindAllString(part[:at[0]], -1)
				if len(before) == 0 {
					t.Errorf("%s is not marked with one of %q: %s", part[at[0]:at[1]], actors, message)
				} else if last := before[len(before)-1]; strings.HasPrefix(part[at[0]:], "`az ad ") != (last == "Entra admin:") {
					t.Errorf("%s is marked with %q: %s", part[at[0]:at[1]], last, message)
				}
			}
		}
		for part := range strings.SplitSeq(prose, " | ") {
			developers, _, _ := strings.Cut(part, "cluster operator:")
			if flag := flagName.FindString(developers); flag != "" {
				t.Errorf("%q is not marked with \"cluster operator:\": %s", flag, message)
			}
		}
		if !texts[text] {
			texts[text] = true
			total += utf8.RuneCountInString(text)
		}
	}
	if len(texts) < 150 || total >= maxMeanText*len(texts) {
		t.Errorf("%d texts with %d characters, want 150 or more of at most %d in the mean", len(texts), total, maxMeanText)
	}
}
