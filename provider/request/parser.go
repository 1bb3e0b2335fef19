package request

import (
	lru "github.com/hashicorp/golang-lru/v2"
)

// Parser parses requests and caches the lists of objects that were valid: the replicas of a
// workload, and their rotations, send the same list repeatedly, and parsing YAML is most of
// the work. Make it with [NewParser]; the zero value has no cache. It is safe for concurrent
// use.
type Parser struct {
	known *lru.Cache[list, parsedList] // nil for no cache
}

// list is what the objects of a request depend on.
type list struct {
	text  string
	class defaults
}

type parsedList struct {
	objects  []Object
	warnings []Warning
}

// Bounds of the cache.
const (
	maxLists    = 256
	maxListText = 16 << 10
	maxListSize = 512 // objects, their pieces and warnings, since aliases make many of a short text
)

// NewParser makes a Parser with a cache.
func NewParser() *Parser {
	known, _ := lru.New[list, parsedList](maxLists) // rejects only a size below 1
	return &Parser{known: known}
}

// objects returns the objects of the text, which several Mounts may share.
func (r *Parser) objects(text string, class defaults) ([]Object, []Warning, problems) {
	if r.known == nil || len(text) > maxListText {
		return parseObjects(text, class)
	}
	key := list{text, class}
	if found, ok := r.known.Get(key); ok {
		return found.objects, found.warnings, nil
	}
	objects, warnings, wrong := parseObjects(text, class)
	if len(wrong) == 0 && listSize(objects)+len(warnings) <= maxListSize {
		r.known.Add(key, parsedList{objects, warnings})
	}
	return objects, warnings, wrong
}

// listSize is the memory that objects take, in that of about one object.
func listSize(objects []Object) int {
	size := len(objects)
	for _, o := range objects {
		if o.Find != nil {
			size += 1 + len(o.Find.Tags)
			if o.Find.Name != nil {
				size += maxPatternSize / 8
			}
		}
		if o.Document != nil {
			size += o.Document.Size()/8 + len(o.Document.References())
		}
		if o.Pieces != nil {
			size += len(o.Pieces.Paths) + len(o.Pieces.Parts)
			for _, p := range o.Pieces.Paths {
				size += len(p.Query.String()) / 4
			}
		}
	}
	return size
}
