// Package validate checks SecretProviderClasses before they reach a cluster, with the parser of the
// provider.
package validate

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"akv-csi-provider/cmd/kubectl-akv/classes"
	"akv-csi-provider/cmd/kubectl-akv/cli"
)

const long = `Check SecretProviderClasses in files, without a cluster and without a vault. The command reports what
the provider would report when a pod mounts the class, in the same words, with file, line and column.

It reads YAML and JSON, several documents in a file, and lists. In folders it reads all files named
*.yaml, *.yml and *.json, also in their folders. Other kinds of objects are skipped, as are
SecretProviderClasses of other providers. It does not check the volumeAttributes of pods, which
override parameters of a class.

Exit codes: 0 no problems; 1 there are problems; 2 wrong usage, or a file that cannot be read.`

const examples = `  # Check a file, and all files of a folder
  kubectl akv validate -f class.yaml
  kubectl akv validate -f deploy/

  # Check what Helm or kustomize render
  helm template . | kubectl akv validate -f -
  kubectl kustomize . | kubectl akv validate -f -

  # In a workflow of GitHub, with warnings as errors
  kubectl akv validate --strict -o github -f deploy/`

// New returns the command.
func New(env *cli.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:               "validate -f FILE",
		Short:             "Check SecretProviderClasses in files",
		Long:              long,
		Example:           examples,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	var paths, ownClouds []string
	var strict bool
	cmd.Flags().StringArrayVarP(&paths, "filename", "f", nil, "file or folder to check; - for standard input; repeatable")
	cmd.Flags().BoolVar(&strict, "strict", false, "treat warnings as errors, as the provider does with --strict-objects")
	cmd.Flags().StringSliceVar(&ownClouds, "cloud", nil, "name of a cloud that the provider has by --cloud-file; repeatable")
	output := cli.AddOutputFlag(cmd, "text", "json", "github", "sarif")
	cmd.RunE = func(*cobra.Command, []string) error {
		if len(paths) == 0 {
			return fmt.Errorf("name what to check with -f\nSee '%s --help'", cmd.CommandPath())
		}
		found, err := classes.Read(paths, env.In)
		if err != nil {
			return err
		}
		result := Check(found, ownClouds, strict)
		if err := result.print(env, *output); err != nil {
			return err
		}
		if result.Errors > 0 {
			return cli.ErrProblems
		}
		return nil
	}
	return cmd
}

// Result is what the command prints.
type Result struct {
	Classes  int       `json:"classes"`
	Errors   int       `json:"errors"`
	Warnings int       `json:"warnings"`
	Findings []Finding `json:"findings"`
	Skipped  []Skipped `json:"skipped,omitempty"`
}

// Skipped is a document that may be meant as a class and was not checked.
type Skipped struct {
	File   string `json:"file"`
	Line   int    `json:"line"`
	Column int    `json:"column"`
	Class  string `json:"class,omitempty"`
	Why    string `json:"why"`
}

// Check judges the classes of manifests. With strict, warnings are errors.
func Check(found *classes.Found, ownClouds []string, strict bool) *Result {
	result := &Result{Classes: len(found.Classes), Findings: []Finding{}}
	for _, p := range found.Problems {
		result.Findings = append(result.Findings, ofManifest(p))
	}
	for _, c := range found.Classes {
		result.Findings = append(result.Findings, Judge(c, ownClouds)...)
	}
	slices.SortStableFunc(result.Findings, func(a, b Finding) int {
		return slices.Index(found.Files, a.File) - slices.Index(found.Files, b.File)
	})
	for i := range result.Findings {
		if strict {
			result.Findings[i].Severity = Error
		}
		if result.Findings[i].Severity == Error {
			result.Errors++
		} else {
			result.Warnings++
		}
	}
	for _, p := range found.Skipped {
		result.Skipped = append(result.Skipped, Skipped{p.File, p.Line, p.Column, p.Class, p.Cause})
	}
	return result
}

func (r *Result) summary() string {
	text := []string{count(r.Classes, "class", "classes") + " checked", count(r.Errors, "problem", "problems")}
	if r.Warnings > 0 {
		text = append(text, count(r.Warnings, "warning", "warnings"))
	}
	return strings.Join(text, ", ")
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprint(n, " ", many)
}
