package validate

import (
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"akv-csi-provider/cmd/kubectl-akv/cli"
	"akv-csi-provider/cmd/kubectl-akv/version"
)

func (r *Result) print(env *cli.Env, format cli.Output) error {
	switch format {
	case "json":
		return cli.Encode(env.Out, format, r)
	case "sarif":
		return cli.Encode(env.Out, format, r.sarif())
	case "github":
		for _, f := range r.Findings {
			fmt.Fprintln(env.Out, workflowCommand(f))
		}
	default:
		for _, f := range r.Findings {
			mark := env.Style.Red
			if f.Severity == Warning {
				mark = env.Style.Yellow
			}
			place := fmt.Sprintf("%s:%d:%d:", f.File, f.Line, f.Column)
			fmt.Fprintln(env.Out, env.Style.Bold(cli.Printable(place)), mark(string(f.Severity)+":"), cli.Printable(f.Message()), env.Style.Faint("["+f.Rule+"]"))
		}
	}
	for _, s := range r.Skipped {
		fmt.Fprintln(env.ErrOut, cli.Printable(fmt.Sprintf("%s:%d:%d: skipped: %s", s.File, s.Line, s.Column, s.Why)))
	}
	_, err := fmt.Fprintln(env.ErrOut, r.summary())
	return err
}

// workflowCommand is a finding as a workflow command of GitHub Actions, which annotates the file.
func workflowCommand(f Finding) string {
	data := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	property := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
	return fmt.Sprintf("::%s file=%s,line=%d,col=%d,title=%s::%s", f.Severity, property.Replace(filepath.ToSlash(f.File)), f.Line, f.Column,
		property.Replace(f.Rule), data.Replace(f.Message()))
}

// object is one of JSON.
type object = map[string]any

// sarif is the result in the Static Analysis Results Interchange Format 2.1.0 of OASIS.
func (r *Result) sarif() any {
	rules, results := []object{}, []object{}
	index := make(map[string]int)
	for _, f := range r.Findings {
		if _, known := index[f.Rule]; !known {
			index[f.Rule] = len(rules)
			rules = append(rules, object{"id": f.Rule})
		}
		region := object{"startLine": max(f.Line, 1)}
		if f.Column > 0 {
			region["startColumn"] = f.Column
		}
		results = append(results, object{
			"ruleId": f.Rule, "ruleIndex": index[f.Rule], "level": f.Severity, "message": object{"text": f.Message()},
			"locations": []object{{"physicalLocation": object{"artifactLocation": object{"uri": fileURI(f.File)}, "region": region}}},
		})
	}
	return object{
		"$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
		"version": "2.1.0",
		"runs": []object{{
			"tool":       object{"driver": object{"name": "kubectl-akv", "semanticVersion": version.Version(), "rules": rules}},
			"columnKind": "unicodeCodePoints",
			"results":    results,
		}},
	}
}

// fileURI is a relative reference for a relative path, as GitHub wants it.
func fileURI(name string) string {
	name = filepath.ToSlash(name)
	switch {
	case name == "<stdin>":
		return "stdin"
	case strings.HasPrefix(name, "/"):
		return (&url.URL{Scheme: "file", Path: name}).String()
	case filepath.IsAbs(name): // on Windows
		return (&url.URL{Scheme: "file", Path: "/" + name}).String()
	}
	return (&url.URL{Path: name}).EscapedPath()
}
