package request

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strconv"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Bounds of a search.
const (
	defaultMatches = 100
	maxMatches     = 1000
	maxTags        = 15  // which Key Vault allows an object
	maxTag         = 256 // characters of its name and its value, likewise
	maxPattern     = 256 // bytes
	// maxPatternSize bounds the states of a pattern, repetitions counted as often as they
	// repeat: a search matches all of them at each of the 127 characters of thousands of names.
	maxPatternSize = 128
)

// search reads the fields of a search.
func (r *fieldReader) search(o *Object) {
	o.Type = r.objectType()
	o.Find = &Find{Max: r.maxObjects(), Managed: r.boolean("includeCertificates")}
	r.folder(o)
	r.content(o)
	if o.Find.Managed && (o.Type == TypeKey || o.Type == TypeCert) {
		r.wrong("includeCertificates", "is not allowed with objectType "+quote(string(o.Type)), onlySecrets)
	}
	if r.meant(string(ofFind)) != "" {
		r.lacks(string(ofFind), "use name, tags")
		return
	}
	node := r.nodes["find"]
	f := r.nested(&node, "find", "name", "tags")
	if f == nil {
		return
	}
	if f.has("name") {
		o.Find.Name = f.name()
	}
	if f.has("tags") {
		o.Find.Tags = f.tags()
	}
	switch misspelled := cmp.Or(f.meant("name"), f.meant("tags")); {
	case f.has("name"), f.has("tags"):
	case misspelled != "":
		f.notField(misspelled)
	default:
		r.wrong("find", "neither name nor tags is set", "set one (the name '.*' matches all)")
	}
	f.unknown()
}

// name reads the pattern of names.
func (r *fieldReader) name() *regexp.Regexp {
	text, single := r.values["name"]
	if !single {
		return nil // which is reported
	}
	pattern, cause, fix := r.pattern(text)
	if cause != "" {
		r.wrong("name", cause, fix)
		return nil
	}
	if pattern != nil && pattern.NumSubexp() > 1 {
		r.wrong("name", fmt.Sprintf("%s has %d groups", quote(text), pattern.NumSubexp()),
			"use at most one group, for the file name; others as (?:…)")
	}
	return pattern
}

const repetitionFix = "use + or * instead of long repetitions"

// pattern compiles a pattern, or says what is wrong with it and how to fix it. It returns neither if there is a
// problem that is reported.
func (r *fieldReader) pattern(text string) (_ *regexp.Regexp, cause, fix string) {
	if len(text) > maxPattern {
		return nil, fmt.Sprintf("%d bytes long, over the limit of %d", len(text), maxPattern), "shorten it, or use several entries"
	}
	if !r.speak(patternPrice * len(text)) {
		return nil, "", ""
	}
	parsed, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		code, fix := "not valid", "use an RE2 regular expression"
		if e, ok := errors.AsType[*syntax.Error](err); ok {
			code = e.Code.String() + " in " + quote(e.Expr)
			if e.Code == syntax.ErrInvalidRepeatSize || e.Code == syntax.ErrLarge {
				fix = repetitionFix
			}
		}
		return nil, quote(text) + " is not a valid regular expression: " + code, fix
	}
	size := patternSize(parsed)
	if size > maxPatternSize {
		return nil, quote(text) + " has too many states, from repetitions or large character classes", repetitionFix
	}
	if !r.speak(patternPrice * size) {
		return nil, "", ""
	}
	pattern, err := regexp.Compile(text)
	if err != nil {
		return nil, quote(text) + " is not a valid regular expression", repetitionFix
	}
	return pattern, "", ""
}

// patternSize is about the number of states, of which a literal has fewer than it has characters:
// most of the time only few of them are matched.
func patternSize(p *syntax.Regexp) int {
	size := 1
	switch p.Op {
	case syntax.OpLiteral:
		size += len(p.Rune) / 4
	case syntax.OpCharClass:
		size += len(p.Rune) / 8
	}
	for _, sub := range p.Sub {
		size += patternSize(sub)
	}
	if p.Op == syntax.OpRepeat {
		size = (size - 1) * max(p.Min, p.Max, 1)
	}
	return min(size, maxPatternSize+1) // without an overflow
}

// tags reads the tags that an object must have.
func (r *fieldReader) tags() map[string]string {
	node := r.nodes["tags"]
	mapping := resolve(&node)
	if mapping.Kind != yaml.MappingNode {
		r.wrong("tags", r.place("tags").cause("not a mapping of names to values"), "use tags: {name: value}")
		return nil
	}
	f := &fieldReader{objectsReader: r.objectsReader, where: r.where + ": tags", entry: place{r.entry.doc, mapping}}
	if !f.decode() {
		return nil
	}
	if n := len(f.nodes); n == 0 || n > maxTags {
		r.wrong("tags", fmt.Sprintf("%d tags", n), fmt.Sprintf("use 1 to %d", maxTags))
		return nil
	}
	tags := make(map[string]string, len(f.nodes))
	for _, name := range sortedKeys(f.nodes) {
		value, text := f.nodes[name], ""
		switch err := value.Decode(&text); {
		case err != nil:
			f.problem(f.place(name), f.where, f.place(name).cause(quote(name)+" is not a single value"), "write it as a string")
		case utf8.RuneCountInString(name) > maxTag || utf8.RuneCountInString(text) > maxTag:
			f.problem(f.place(name), f.where, quote(name)+" has a name or a value of more than "+strconv.Itoa(maxTag)+" characters", "shorten it: Key Vault has no longer tags")
		}
		tags[name] = text
	}
	return tags
}

// maxObjects reads how many matches are no error.
func (r *fieldReader) maxObjects() int {
	text := r.values["maxObjects"]
	if text == "" {
		return defaultMatches
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxMatches {
		r.wrong("maxObjects", invalid(text, notValid), fmt.Sprintf("use a number from 1 to %d", maxMatches))
	}
	return n
}
