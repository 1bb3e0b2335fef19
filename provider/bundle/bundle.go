// Package bundle writes names and values into one file: as environment variables, Java
// properties, JSON or YAML. It is pure, and equal entries have equal bytes.
package bundle

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"akv-csi-provider/provider/tree"
)

// Format is a format of files.
type Format string

// The formats.
const (
	Dotenv     Format = "dotenv"
	Properties Format = "properties"
	JSON       Format = "json"
	YAML       Format = "yaml"
)

// maxName is the bound of a name: that of a file, in bytes.
const maxName = 255

// The errors of entries. None of them contains a name or a value: the names may be keys of a
// secret.
var (
	ErrName     = fmt.Errorf("has a name that is empty, longer than %d bytes or not UTF-8 text", maxName)
	ErrTwice    = errors.New("has one name twice")
	ErrVariable = errors.New("has two names that are one environment variable in upper case, with _ for every other character")
	ErrText     = errors.New("has a value that is not UTF-8 text")
	ErrNUL      = errors.New("has a value with a NUL byte, which no environment variable can have")
)

// Write writes the entries, sorted by name. A value is a text or another part of a tree; JSON and
// YAML keep its structure, and the other formats write it as it would be in a separate file.
func Write(format Format, entries []tree.Member) ([]byte, error) {
	entries = slices.Clone(entries)
	slices.SortFunc(entries, func(a, b tree.Member) int { return strings.Compare(a.Key, b.Key) })
	for i, e := range entries {
		text, isText := e.Value.(string)
		switch {
		case e.Key == "", len(e.Key) > maxName, !utf8.ValidString(e.Key):
			return nil, ErrName
		case i > 0 && e.Key == entries[i-1].Key:
			return nil, ErrTwice
		case isText && !utf8.ValidString(text):
			return nil, ErrText
		}
	}
	switch format {
	case Dotenv:
		return dotenv(entries)
	case Properties:
		return properties(entries), nil
	case JSON:
		return jsonObject(entries), nil
	case YAML:
		return yamlMapping(entries), nil
	}
	return nil, fmt.Errorf("has no format %.64q", format)
}

func jsonObject(entries []tree.Member) []byte {
	object := make(map[string]any, len(entries))
	for _, e := range entries {
		object[e.Key] = e.Value
	}
	return append(tree.JSON(object), '\n')
}

// yamlMapping writes a line for each entry, with name and value as JSON, which is YAML too. So
// all texts are in quotes: some readers take yes, 0755 and 1:30 for other types.
func yamlMapping(entries []tree.Member) []byte {
	if len(entries) == 0 {
		return []byte("{}\n")
	}
	var out []byte
	for _, e := range entries {
		out = append(out, printable(tree.JSON(e.Key))...)
		out = append(out, ": "...)
		out = append(out, printable(tree.JSON(e.Value))...)
		out = append(out, '\n')
	}
	return out
}

// printable escapes the characters that JSON has as they are and YAML does not (section 5.1 of
// its specification). They stand in texts only.
func printable(json []byte) []byte {
	out := make([]byte, 0, len(json))
	for _, r := range string(json) {
		if r >= 0x7f && r <= 0x9f || r == 0xfeff || r == 0xfffe || r == 0xffff {
			out = fmt.Appendf(out, `\u%04x`, r)
		} else {
			out = utf8.AppendRune(out, r)
		}
	}
	return out
}
