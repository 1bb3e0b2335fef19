// Package migrate says what changes for SecretProviderClasses when this provider replaces
// Azure/secrets-store-csi-driver-provider-azure, by the provider's own parser.
package migrate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"akv-csi-provider/cmd/kubectl-akv/classes"
	"akv-csi-provider/cmd/kubectl-akv/cli"
	"akv-csi-provider/provider/cloud"
)

type command struct {
	env      *cli.Env
	output   *cli.Output
	files    []string
	settings settings
}

const long = `Read all SecretProviderClasses of the cluster, or of files, and show what changes for them when
akv-csi-provider takes the place of Azure/secrets-store-csi-driver-provider-azure (v1.8.2). Nothing
is written.

  refused   pods with the class do not start
  changes   files, or Secrets that are made of them, are others
  warning   a mistake that both providers accept; --strict-objects refuses it

A class does not show everything: the contents of vaults, which files applications open, and what
pods override in volumeAttributes. See deploy/MOVING.md.

Exit codes: 0 nothing to do (warnings may be listed); 1 classes are refused or change; 2 it could
not answer, or not for all classes.`

const example = `  # All classes that you may read
  kubectl akv migrate
  # Those of one namespace
  kubectl akv migrate -n shop
  # Of a repository, where warnings count as well
  kubectl akv migrate -f deploy/ --strict
  # For a script
  kubectl akv migrate -o json`

// New returns the command.
func New(env *cli.Env) *cobra.Command {
	c := &command{env: env}
	cmd := &cobra.Command{
		Use:               "migrate",
		Short:             "Show what changes for classes of the Azure provider",
		Long:              long,
		Example:           example,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return c.run(cmd.Context()) },
	}
	f := cmd.Flags()
	f.StringSliceVarP(&c.files, "filename", "f", nil, "`file` or folder with classes, - for standard input, instead of the cluster")
	f.BoolVar(&c.settings.strict, "strict", false, "treat warnings as errors, as the provider does with --strict-objects")
	f.StringVar(&c.settings.cloudName, "cloud-name", "AzurePublicCloud", "cloud of classes that name none, as of the provider")
	f.StringSliceVar(&c.settings.clouds, "cloud", nil, "`names` of the provider's --cloud-file")
	f.StringSliceVar(&c.settings.envDirs, "cloud-env-dirs", cloud.DefaultEnvDirs, "`folders` of environment files, as of the provider")
	c.output = cli.AddOutputFlag(cmd, "table", "json", "yaml")
	env.AddClusterFlags(cmd)
	return cmd
}

// Report is the answer.
type Report struct {
	Classes     int          `json:"classes"` // that were read
	Differences []Difference `json:"differences"`
	NotRead     []string     `json:"notRead,omitempty"`
}

func (c *command) run(ctx context.Context) error {
	if err := cloud.CheckName(c.settings.cloudName, c.settings.clouds...); err != nil {
		return fmt.Errorf("--cloud-name: %w", err)
	}
	all, missing, err := c.classes(ctx)
	if err != nil {
		return err
	}
	report := Report{Classes: len(all), Differences: []Difference{}, NotRead: missing}
	slices.SortStableFunc(all, func(a, b *classes.Class) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	for _, class := range all {
		report.Differences = append(report.Differences, judge(class, c.settings)...)
	}
	if err := c.print(&report); err != nil {
		return err
	}
	for _, d := range report.Differences {
		if d.Level != Warning {
			return cli.ErrProblems
		}
	}
	if len(missing) > 0 {
		return errors.New("not all classes could be read")
	}
	return nil
}

// classes reads those of files, of one namespace, or all that the user may read.
func (c *command) classes(ctx context.Context) (all []*classes.Class, missing []string, err error) {
	if len(c.files) > 0 {
		found, err := classes.Read(c.files, c.env.In)
		if err != nil {
			return nil, nil, err
		}
		for _, p := range found.Problems {
			missing = append(missing, fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Column, strings.TrimPrefix(p.Field+": "+p.Cause, ": ")))
		}
		return found.Classes, missing, nil
	}
	client, err := c.env.Client()
	if err != nil {
		return nil, nil, err
	}
	namespace, err := c.env.Namespace()
	if err != nil {
		return nil, nil, err
	}
	defer c.env.Progress("reading SecretProviderClasses")()
	if c.env.Kube.Namespace != nil && *c.env.Kube.Namespace != "" {
		all, err = classes.List(ctx, client, namespace)
	} else {
		all, missing, err = classes.ListReadable(ctx, client, namespace)
	}
	if apierrors.IsNotFound(err) {
		err = errors.New("the cluster does not know SecretProviderClasses: the Secrets Store CSI driver is not installed")
	}
	return all, missing, err
}

func (c *command) print(r *Report) error {
	if *c.output != "table" {
		return cli.Encode(c.env.Out, *c.output, r)
	}
	style := c.env.Style
	marks := map[Level]func(string) string{Refused: style.Red, Changes: style.Yellow}
	counts := make(map[Level]int)
	if len(r.Differences) > 0 {
		table := c.env.NewTable("NAMESPACE", "CLASS", "LEVEL", "WHAT CHANGES", "WHAT TO DO")
		for _, d := range r.Differences {
			table.Row(cli.Cell{Text: d.Namespace}, cli.Cell{Text: d.Class}, cli.Cell{Text: string(d.Level), Mark: marks[d.Level]}, cli.Cell{Text: d.What}, cli.Cell{Text: d.Do})
			counts[d.Level]++
		}
		if err := table.Print(); err != nil {
			return err
		}
	}
	var parts []string
	for _, level := range []Level{Refused, Changes, Warning} {
		if n := counts[level]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s: %d", level, n))
		}
	}
	if parts == nil {
		parts = []string{"nothing changes"}
	}
	noun := "classes"
	if r.Classes == 1 {
		noun = "class"
	}
	fmt.Fprintf(c.env.ErrOut, "%d %s read; %s\n", r.Classes, noun, strings.Join(parts, ", "))
	for _, text := range r.NotRead {
		fmt.Fprintf(c.env.ErrOut, "%s: %s\n", style.Yellow("not read"), cli.Printable(text))
	}
	return nil
}
