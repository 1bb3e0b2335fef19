package provider

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/request"
)

// checkFiles finds files that cannot exist beside each other, or at all, now that all are
// known: those of histories and searches, certificates and keys in separate files, and keys of
// values. What the class alone shows was reported when it was parsed. Equal paths are accepted
// only where the replaced provider accepts them.
func (s session) checkFiles(ctx context.Context, items []item, parts []part) ([]request.Warning, error) {
	var files []request.File
	for i, p := range parts {
		for _, f := range p.files {
			files = append(files, request.File{Path: f.Path, Owner: i})
		}
	}
	duplicates, nested := request.Conflicts(files)
	var warnings []request.Warning
	var problems []fault.Problem
	for _, c := range duplicates {
		one, other := owned{&items[c.File.Owner], c.File.Path}, owned{&items[c.Other.Owner], c.Other.Path}
		cause := fmt.Sprintf("%s is also the path of a file of %s", one.quote(), other.item)
		switch {
		case one.inClass() && other.inClass():
		case one.isNew() || other.isNew():
			problems = append(problems, fault.Problem{Field: one.field(), Cause: cause, Fix: "use another path"})
		default:
			warnings = append(warnings, request.Warning{Kind: request.WarnDuplicatePath, Field: one.field(), Cause: cause + "; the last one wins"})
		}
	}
	if err := s.strict(warnings); err != nil {
		return nil, err
	}
	invalid, bad, err := invalidPaths(ctx, items, files)
	if err != nil {
		return nil, err
	}
	problems = append(problems, invalid...)
	for _, c := range nested {
		if !bad[c.File.Path] {
			one, other := owned{&items[c.File.Owner], c.File.Path}, owned{&items[c.Other.Owner], c.Other.Path}
			problems = append(problems, fault.Problem{Field: one.field(), Fix: request.NestedFix,
				Cause: one.quote() + " is below " + other.describe()})
		}
	}
	if len(problems) > 0 {
		slices.SortFunc(problems, func(a, b fault.Problem) int {
			return cmp.Or(cmp.Compare(a.Field, b.Field), cmp.Compare(a.Cause, b.Cause))
		})
		return nil, fault.Invalid(problems...)
	}
	return warnings, nil
}

// owned is the path of a file, and what the file is made of.
type owned struct {
	item *item
	path string
}

// entry is what the class says about the file.
func (f owned) entry() *request.Object {
	if f.item.of != nil {
		return &f.item.of.Object
	}
	return &f.item.Object
}

// isKey reports whether the path contains a key of a value. No message may show it.
func (f owned) isKey() bool {
	o := f.entry()
	return o.Pieces != nil && o.Pieces.Expand != "" && o.Bundle == ""
}

// isNew reports whether the path is one that the replaced provider does not have.
func (f owned) isNew() bool { return f.isKey() || f.item.found && f.item.of == nil }

// inClass reports whether the class has the path.
func (f owned) inClass() bool {
	o := f.entry()
	if f.isNew() {
		return false
	}
	if p := o.Pieces; p != nil {
		if slices.ContainsFunc(p.Paths, func(p request.Piece) bool { return p.Path == f.path }) ||
			slices.ContainsFunc(p.Parts, func(p request.Part) bool { return p.Path == f.path }) {
			return true
		}
	}
	return f.path == o.Path
}

// quote shows the path in a message.
func (f owned) quote() string {
	if f.isKey() {
		return "the name of one of its files"
	}
	return fmt.Sprintf("%.64q", f.path)
}

// describe names the file in a message about another.
func (f owned) describe() string {
	if f.isKey() {
		return fmt.Sprintf("a file of %s", f.item)
	}
	return fmt.Sprintf("%.64q, a file of %s", f.path, f.item)
}

// field is where the path comes from.
func (f owned) field() string {
	if f.isKey() {
		return f.item.String() + ": expand"
	}
	return f.item.String() + ": objectAlias"
}

// invalidPaths finds the paths that the driver or the file system would reject. Of files
// with one path, the last one is reported. It continues after the deadline of the mount, at
// which stale answers arrive.
func invalidPaths(ctx context.Context, items []item, files []request.File) (problems []fault.Problem, bad map[string]bool, _ error) {
	bad = make(map[string]bool)
	for _, f := range slices.Backward(files) {
		if err := ctx.Err(); errors.Is(err, context.Canceled) {
			return nil, nil, err
		}
		cause := request.PathProblem(f.Path)
		if cause == "" || bad[f.Path] {
			continue
		}
		bad[f.Path] = true
		one := owned{&items[f.Owner], f.Path}
		if one.isKey() {
			cause = "is too long" // the other causes were found when it was rendered
		}
		problems = append(problems, fault.Problem{Field: one.field(), Cause: one.quote() + " " + cause, Fix: "use a shorter path"})
	}
	return problems, bad, nil
}
