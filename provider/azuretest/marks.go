package azuretest

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// markPrefix is how many bytes of a mark are searched for: a text that is cut leaks too.
const markPrefix = 16

// lineBreaks are removed from a text before it is searched again: PEM and MIME break base64 into
// lines, and JSON and URLs escape the breaks.
var lineBreaks = strings.NewReplacer("\r", "", "\n", "", `\r`, "", `\n`, "", "%0D", "", "%0A", "")

// FindMarks searches a text for marks, such as tokens, secrets and private keys, and for the first 16
// bytes of each. It finds them verbatim, in hexadecimal and decimal digits, in both alphabets of
// base64 wherever a mark begins in the encoded text, and escaped for URLs, JSON and Go. It returns
// which mark was found in which form.
func FindMarks(text []byte, marks []string) []string {
	folded := strings.ToLower(string(text))
	texts := []string{string(text), lineBreaks.Replace(string(text))}
	var found []string
	for _, mark := range marks {
		if mark == "" {
			panic("azuretest: an empty mark is everywhere")
		}
		prefix := mark[:min(markPrefix, len(mark))]
		if strings.Contains(folded, hex.EncodeToString([]byte(prefix))) {
			found = append(found, fmt.Sprintf("%q as hex", prefix))
		}
		seen := map[string]bool{}
		for _, f := range markForms(prefix) {
			if seen[f.text] {
				continue // the mark needs no escaping
			}
			seen[f.text] = true
			if slices.ContainsFunc(texts, func(t string) bool { return strings.Contains(t, f.text) }) {
				found = append(found, fmt.Sprintf("%q as %s", prefix, f.name))
			}
		}
	}
	return found
}

type markForm struct{ name, text string }

// markForms are the forms of a mark whose letter case counts.
func markForms(mark string) []markForm {
	forms := []markForm{
		{"raw text", mark},
		{"decimal bytes", strings.Trim(fmt.Sprint([]byte(mark)), "[]")},
		{"URL query", url.QueryEscape(mark)},
		{"URL path", url.PathEscape(mark)},
		{"Go string", quoted(mark)},
		{"Go string within a string", quoted(quoted(mark))},
	}
	for offset := range 3 {
		forms = append(forms, markForm{fmt.Sprintf("base64 at offset %d", offset), encodedAt(base64.RawStdEncoding, mark, offset)},
			markForm{fmt.Sprintf("base64url at offset %d", offset), encodedAt(base64.RawURLEncoding, mark, offset)})
	}
	if utf8.ValidString(mark) {
		text, err := json.Marshal(mark)
		if err != nil {
			panic(err) // no string does that
		}
		forms = append(forms, markForm{"JSON", string(text[1 : len(text)-1])})
	}
	return forms
}

func quoted(text string) string {
	text = strconv.Quote(text)
	return text[1 : len(text)-1]
}

// encodedAt returns the characters of base64 that depend only on the mark when it begins that many
// bytes after a multiple of three.
func encodedAt(encoding *base64.Encoding, mark string, offset int) string {
	bits := 8 * (offset + len(mark))
	text := encoding.EncodeToString(append(make([]byte, offset), mark...))
	return text[(8*offset+5)/6 : bits/6]
}
