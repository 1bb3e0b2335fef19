package validate

import (
	"cmp"
	"errors"
	"io/fs"
	"maps"
	"slices"

	"akv-csi-provider/cmd/kubectl-akv/classes"
	"akv-csi-provider/provider/cloud"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/request"
)

// Severity says whether a finding keeps pods from starting.
type Severity string

// The severities, by their names in GitHub's workflow commands and SARIF.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// Rules beside the kinds of the provider's warnings and its reason [fault.InvalidParameter].
const (
	ruleManifest  = "InvalidManifest"
	ruleParameter = "unknown_parameter"
)

// Finding is a problem or a warning.
type Finding struct {
	Severity Severity `json:"severity"`
	Rule     string   `json:"rule"`
	File     string   `json:"file"`
	Line     int      `json:"line"`   // counted from 1
	Column   int      `json:"column"` // in characters, counted from 1
	Class    string   `json:"class,omitempty"`
	Field    string   `json:"field,omitempty"`
	Cause    string   `json:"cause"`
	Fix      string   `json:"fix,omitempty"`
}

// Message is the provider's text: field, cause and fix.
func (f Finding) Message() string {
	text := f.Cause
	if f.Field != "" {
		text = f.Field + ": " + text
	}
	if f.Fix != "" {
		text += "; " + f.Fix
	}
	return text
}

// defaultMode is the file mode that the CSI driver sends.
const defaultMode fs.FileMode = 0o644

// Parameters are those that a class can have.
var Parameters = []string{"keyvaultName", "failoverKeyvaultName", "objects", "tenantID", "tenantId", "clientID",
	"useVMManagedIdentity", "userAssignedIdentityID", "useAzureTokenProxy", "usePodIdentity", "cloudName", "cloudEnvFileName"}

// Judge returns what the provider finds wrong with a class, in the order of the file, and what its
// manifest has wrong.
func Judge(c *classes.Class, ownClouds []string) []Finding {
	var found []Finding
	for _, p := range c.Problems {
		found = append(found, ofManifest(p))
	}
	verdict := parse(c.Parameters, ownClouds)
	for _, p := range verdict.problems {
		found = append(found, at(c, p.Field, p.Line, p.Column, Finding{Severity: Error, Rule: string(fault.InvalidParameter), Cause: p.Cause, Fix: p.Fix}))
	}
	for _, w := range verdict.warnings {
		found = append(found, at(c, w.Field, w.Line, w.Column, Finding{Severity: Warning, Rule: string(w.Kind), Cause: w.Cause}))
	}
	found = append(found, unknownParameters(c)...)
	if len(c.Problems)+len(verdict.problems) == 0 {
		found = append(found, unknownFiles(c, verdict.mount)...)
	}
	found = withoutEchoes(c, found)
	slices.SortStableFunc(found, func(a, b Finding) int { return cmp.Or(a.Line-b.Line, a.Column-b.Column) })
	return found
}

type verdict struct {
	mount    *request.Mount
	problems []fault.Problem
	warnings []request.Warning
}

// parse is what the provider finds wrong with parameters, as far as it needs no pod and no vault.
func parse(parameters map[string]string, ownClouds []string) verdict {
	m, problems := new(request.Parser).ParseClass(parameters, defaultMode)
	named := func(p fault.Problem) bool { return p.Field == "cloudName" }
	if e, ok := errors.AsType[*fault.Error](checkCloud(m.Cloud.Name, ownClouds)); ok && !slices.ContainsFunc(problems, named) {
		problems = append(problems, fault.Problem{Field: "cloudName", Cause: e.Cause, Fix: e.Fix})
	}
	return verdict{m, problems, m.Warnings}
}

func checkCloud(name string, own []string) error {
	if name == "" {
		return nil
	}
	return cloud.CheckName(name, own...)
}

func ofManifest(p classes.Problem) Finding {
	return Finding{Severity: Error, Rule: ruleManifest, File: p.File, Line: p.Line, Column: p.Column, Class: p.Class, Field: p.Field, Cause: p.Cause, Fix: p.Fix}
}

// at completes a finding of a parameter, or of a place in objects.
func at(c *classes.Class, field string, line, column int, f Finding) Finding {
	parameter := field
	if line > 0 || c.Parameters[field] == "" && !slices.Contains(Parameters, field) {
		parameter = "objects"
	}
	f.File, f.Class, f.Field = c.File, c.ID(), field
	f.Line, f.Column = c.Place(parameter, line, column)
	return f
}

// unknownParameters finds those that the provider ignores though another name may be meant. Others
// are not worth a word: classes carry leftovers of years.
func unknownParameters(c *classes.Class) (found []Finding) {
	for _, name := range slices.Sorted(maps.Keys(c.Parameters)) {
		near := request.Nearest(name, Parameters...)
		if slices.Contains(Parameters, name) || near == "" {
			continue
		}
		line, column := c.NamePlace(name)
		found = append(found, Finding{Severity: Warning, Rule: ruleParameter, File: c.File, Line: line, Column: column, Class: c.ID(), Field: name,
			Cause: "is not a parameter and is ignored (did you mean " + near + "?)"})
	}
	return found
}

// withoutEchoes removes the provider's words on parameters that it does not get, since the manifest
// has no text there: that is reported.
func withoutEchoes(c *classes.Class, found []Finding) []Finding {
	notText := make(map[string]bool)
	for _, p := range c.Problems {
		if _, text := c.Parameters[p.Field]; !text {
			notText[p.Field] = true
		}
	}
	return slices.DeleteFunc(found, func(f Finding) bool {
		return f.Rule == string(fault.InvalidParameter) && (notText[f.Field] || notText["parameters"])
	})
}
