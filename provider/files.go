package provider

import (
	"cmp"
	"fmt"
	"path"
	"slices"

	"akv-csi-provider/provider/request"
)

// checkFiles finds files that cannot stand beside each other, or at all, now that it is
// known which there are: those of histories, and certificates and keys in files of their
// own. What could be told from the class alone is told already.
func (m *Mounter) checkFiles(items []item, parts []part) ([]request.Lax, error) {
	owner := make(map[string]int)
	var lax []request.Lax
	for i, p := range parts {
		for _, f := range p.files {
			if first, taken := owner[f.Path]; taken && (f.Path != items[i].Path || f.Path != items[first].Path) {
				lax = append(lax, request.Lax{Kind: request.LaxDuplicatePath, Field: items[i].String() + ": objectAlias",
					Cause: fmt.Sprintf("%.64q is also the path of a file of %s; the last one is kept", f.Path, items[first])})
			}
			owner[f.Path] = i
		}
	}
	if m.StrictObjects {
		if err := request.Strict(lax); err != nil {
			return nil, err
		}
	}
	var problems []request.Problem
	wrong := func(i int, cause, fix string) {
		problems = append(problems, request.Problem{Field: items[i].String() + ": objectAlias", Cause: cause, Fix: fix})
	}
	for file, i := range owner {
		if cause := request.PathProblem(file); cause != "" {
			wrong(i, fmt.Sprintf("%.64q %s", file, cause), "use a shorter path")
			continue
		}
		for dir := path.Dir(file); dir != "."; dir = path.Dir(dir) {
			if other, taken := owner[dir]; taken {
				wrong(i, fmt.Sprintf("%.64q lies below %.64q, a file of %s", file, dir, items[other]), "a path cannot be a file and a directory")
			}
		}
	}
	if len(problems) > 0 {
		slices.SortFunc(problems, func(a, b request.Problem) int {
			return cmp.Or(cmp.Compare(a.Field, b.Field), cmp.Compare(a.Cause, b.Cause))
		})
		return nil, &request.Error{Problems: problems}
	}
	return lax, nil
}
