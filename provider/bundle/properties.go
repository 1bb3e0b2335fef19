package bundle

import (
	"fmt"
	"unicode/utf16"

	"akv-csi-provider/provider/tree"
)

// properties writes what java.util.Properties.load reads, in the form of its store: in ASCII, so
// that no reader needs to know the encoding.
func properties(entries []tree.Member) (out []byte) {
	for _, e := range entries {
		out = appendProperty(out, e.Key, true)
		out = append(out, '=')
		out = appendProperty(out, string(tree.Content(e.Value)), false)
		out = append(out, '\n')
	}
	return out
}

var propertyEscapes = map[rune]string{'\t': `\t`, '\n': `\n`, '\r': `\r`, '\f': `\f`}

// appendProperty appends a text with escapes. A space ends a name, and is dropped at the start of a
// value.
func appendProperty(out []byte, text string, isName bool) []byte {
	for i, r := range text {
		switch {
		case r == ' ' && (isName || i == 0), r == '\\', r == '=', r == ':', r == '#', r == '!':
			out = append(out, '\\', byte(r))
		case r >= ' ' && r <= '~':
			out = append(out, byte(r))
		case propertyEscapes[r] != "":
			out = append(out, propertyEscapes[r]...)
		default:
			for _, unit := range utf16.Encode([]rune{r}) {
				out = fmt.Appendf(out, `\u%04X`, unit)
			}
		}
	}
	return out
}
