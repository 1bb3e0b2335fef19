// Package tree reads values that are JSON or YAML, selects parts of them with JMESPath, and
// writes the parts as the content of files. It is pure, and every step has a bound: the value
// comes from a vault and the expression from a class, which its pod can overwrite.
//
// A tree consists of nil, bool, string, json.Number, []any and map[string]any. Numbers stay as
// they are written: a large integer does not lose its digits, and 1.0 does not become 1.
package tree

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// Bounds of one value. A secret of Key Vault has 25 KiB at most.
const (
	MaxSize  = 64 << 10
	maxDepth = 200
	maxNodes = 1 << 17 // of a YAML text with all aliases expanded
)

// The errors of a value. None of them contains a part of it.
var (
	ErrTooLarge = errors.New("is longer than 65536 bytes")
	ErrEncoding = errors.New("is not UTF-8 text")
	ErrNeither  = errors.New("is neither a JSON nor a YAML object or list")
	ErrNotJSON  = errors.New("is not a JSON object or list")
	ErrNotYAML  = errors.New("is not a YAML mapping or list")
	ErrTooDeep  = errors.New("is nested more than 200 levels deep")
	ErrAliases  = errors.New("has YAML aliases that multiply to too many values")
	ErrKey      = errors.New("has a YAML key that is not plain text")
	ErrTwice    = errors.New("has a YAML mapping with one key twice")
	ErrNoObject = errors.New("has no keys at its top: it is a list")
)

// Parse reads a value that is JSON or, if it is not, YAML.
func Parse(text string) (any, error) {
	root, err := ParseJSON(text)
	if errors.Is(err, ErrNotJSON) {
		if root, err = ParseYAML(text); errors.Is(err, ErrNotYAML) {
			return nil, ErrNeither
		}
	}
	return root, err
}

// ParseJSON reads one JSON object or list. Of a key that is there twice, the last value counts.
func ParseJSON(text string) (any, error) {
	if err := check(text); err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	var root any
	if err := decoder.Decode(&root); err != nil || !isContainer(root) {
		return nil, ErrNotJSON
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, ErrNotJSON
	}
	if depth(root) > maxDepth {
		return nil, ErrTooDeep
	}
	return root, nil
}

func check(text string) error {
	switch {
	case len(text) > MaxSize:
		return ErrTooLarge
	case !utf8.ValidString(text): // encoding/json would replace what is not UTF-8
		return ErrEncoding
	}
	return nil
}

func isContainer(value any) bool {
	switch value.(type) {
	case map[string]any, []any:
		return true
	}
	return false
}

func depth(value any) (deepest int) {
	switch value := value.(type) {
	case map[string]any:
		for _, member := range value {
			deepest = max(deepest, depth(member))
		}
	case []any:
		for _, element := range value {
			deepest = max(deepest, depth(element))
		}
	default:
		return 0
	}
	return deepest + 1
}

// Count is how many values a tree consists of.
func Count(value any) int {
	n := 1
	switch value := value.(type) {
	case map[string]any:
		for _, member := range value {
			n += Count(member)
		}
	case []any:
		for _, element := range value {
			n += Count(element)
		}
	}
	return n
}

// Content is a part of a tree as the content of a file: a string raw, and everything else as
// JSON without spaces. The keys of an object are sorted, so that equal trees have equal bytes.
func Content(value any) []byte {
	if text, ok := value.(string); ok {
		return []byte(text)
	}
	return JSON(value)
}

// JSON is a part of a tree as JSON without spaces.
func JSON(value any) []byte {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		panic("tree: " + err.Error()) // it consists of the types that a tree has
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// Member is a key at the top of an object, and its value.
type Member struct {
	Key   string
	Value any
}

// Members returns what the object consists of, sorted by key.
func Members(root any) ([]Member, error) {
	object, ok := root.(map[string]any)
	if !ok {
		return nil, ErrNoObject
	}
	members := make([]Member, 0, len(object))
	for key, value := range object {
		members = append(members, Member{key, value})
	}
	slices.SortFunc(members, func(a, b Member) int { return strings.Compare(a.Key, b.Key) })
	return members, nil
}
