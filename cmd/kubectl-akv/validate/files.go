package validate

import (
	"fmt"
	"slices"
	"strings"

	"akv-csi-provider/cmd/kubectl-akv/classes"
	"akv-csi-provider/provider/request"
)

// ruleFile is a file that is missing for a Secret: the driver makes no such Secret, and says so
// only in events of pods that already run.
const ruleFile = "unknown_file"

// shownFiles is how many files a message lists.
const shownFiles = 8

// unknownFiles finds files that secretObjects name and the volume does not have.
func unknownFiles(c *classes.Class, m *request.Mount) (found []Finding) {
	files, all := filesOf(m)
	if !all {
		return nil
	}
	for i, s := range c.SecretObjects() {
		for _, d := range s.Data {
			if d.ObjectName == "" || slices.Contains(files, d.ObjectName) {
				continue
			}
			fix := "use the path of a file: " + strings.Join(files[:min(len(files), shownFiles)], ", ")
			if len(files) > shownFiles {
				fix += ", ..."
			}
			if near := request.Nearest(d.ObjectName, files...); near != "" {
				fix = "did you mean " + near + "?"
			}
			found = append(found, Finding{Severity: Warning, Rule: ruleFile, File: c.File, Line: d.Line, Column: d.Column, Class: c.ID(),
				Field: fmt.Sprintf("secretObjects[%d] %.64q: objectName", i, s.SecretName), Cause: fmt.Sprintf("the volume has no file %.128q", d.ObjectName), Fix: fix})
		}
	}
	return found
}

// filesOf returns the paths of a volume's files, and whether these are all: which files a search or
// expand makes, only the vault shows.
func filesOf(m *request.Mount) (files []string, all bool) {
	for _, o := range m.Objects {
		switch p := o.Pieces; {
		case o.Find != nil && o.Bundle == "", p != nil && p.Expand != "" && o.Bundle == "":
			return nil, false
		case o.History > 1:
			for i := range o.History {
				files = append(files, o.Nth(i, "").Path)
			}
			continue
		case p != nil:
			for _, piece := range p.Paths {
				files = append(files, piece.Path)
			}
			for _, part := range p.Parts {
				files = append(files, part.Path)
			}
		}
		if o.Path != "" {
			files = append(files, o.Path)
		}
	}
	return files, len(files) > 0
}
