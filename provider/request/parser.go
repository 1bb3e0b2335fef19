package request

import (
	"io/fs"

	lru "github.com/hashicorp/golang-lru/v2"
)

// Parser parses requests and remembers the lists of objects that were sound: the
// replicas of a workload, and their rotations, send the same list again and again, and
// reading YAML takes most of what a mount costs here. Make it with [NewParser]; the zero
// value remembers nothing. It is safe for concurrent use.
type Parser struct {
	known *lru.Cache[list, parsedList] // nil for none
}

// list is what the objects of a request are made of.
type list struct {
	text string
	mode fs.FileMode
}

type parsedList struct {
	objects []Object
	lax     []Lax
}

// Bounds of what is remembered.
const (
	maxLists    = 256
	maxListText = 16 << 10
	maxListSize = 512 // objects and mistakes; aliases make many of a short text
)

// NewParser makes a Parser that remembers.
func NewParser() (*Parser, error) {
	known, err := lru.New[list, parsedList](maxLists)
	return &Parser{known: known}, err
}

// objects returns the objects of the text, which several Mounts may share.
func (r *Parser) objects(text string, mode fs.FileMode, e *Error) ([]Object, []Lax) {
	if r.known == nil || len(text) > maxListText || len(e.Problems) > 0 {
		return parseObjects(text, mode, e)
	}
	key := list{text, mode}
	if found, ok := r.known.Get(key); ok {
		return found.objects, found.lax
	}
	objects, lax := parseObjects(text, mode, e)
	if len(e.Problems) == 0 && len(objects)+len(lax) <= maxListSize {
		r.known.Add(key, parsedList{objects, lax})
	}
	return objects, lax
}
