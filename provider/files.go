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
// known: those of histories, and certificates and keys in files of their own. What the class
// alone shows was reported when it was parsed.
func (s session) checkFiles(ctx context.Context, items []item, parts []part) ([]request.Warning, error) {
	var files []request.File
	for i, p := range parts {
		for _, f := range p.files {
			files = append(files, request.File{Path: f.Path, Owner: i})
		}
	}
	duplicates, nested := request.Conflicts(files)
	field := func(f request.File) string { return items[f.Owner].String() + ": objectAlias" }
	var warnings []request.Warning
	for _, c := range duplicates {
		if c.File.Path == items[c.File.Owner].Path && c.File.Path == items[c.Other.Owner].Path {
			continue // both paths are in the class
		}
		warnings = append(warnings, request.Warning{Kind: request.WarnDuplicatePath, Field: field(c.File),
			Cause: fmt.Sprintf("%.64q is also the path of a file of %s; the last one is kept", c.File.Path, items[c.Other.Owner])})
	}
	if err := s.strict(warnings); err != nil {
		return nil, err
	}
	problems, bad, err := invalidPaths(ctx, files, field)
	if err != nil {
		return nil, err
	}
	for _, c := range nested {
		if !bad[c.File.Path] {
			problems = append(problems, fault.Problem{Field: field(c.File), Fix: request.NestedFix,
				Cause: fmt.Sprintf("%.64q lies below %.64q, a file of %s", c.File.Path, c.Other.Path, items[c.Other.Owner])})
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

// invalidPaths finds the paths that the driver or the file system would reject. Of files
// with one path, the last one is reported. It goes on after the deadline of the mount, which
// stale answers come at.
func invalidPaths(ctx context.Context, files []request.File, field func(request.File) string) (problems []fault.Problem, bad map[string]bool, _ error) {
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
		problems = append(problems, fault.Problem{Field: field(f), Cause: fmt.Sprintf("%.64q %s", f.Path, cause), Fix: "use a shorter path"})
	}
	return problems, bad, nil
}
