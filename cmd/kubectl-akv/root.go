package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"akv-csi-provider/cmd/kubectl-akv/cli"
	"akv-csi-provider/cmd/kubectl-akv/doctor"
	"akv-csi-provider/cmd/kubectl-akv/explain"
	"akv-csi-provider/cmd/kubectl-akv/initclass"
	"akv-csi-provider/cmd/kubectl-akv/migrate"
	"akv-csi-provider/cmd/kubectl-akv/preview"
	"akv-csi-provider/cmd/kubectl-akv/schema"
	"akv-csi-provider/cmd/kubectl-akv/status"
	"akv-csi-provider/cmd/kubectl-akv/validate"
	"akv-csi-provider/cmd/kubectl-akv/version"
)

// run returns the exit code: 0 if all is well, 1 if the command found problems, 2 if it could
// not answer.
func run(ctx context.Context, args []string, streams genericiooptions.IOStreams) int {
	root := newRoot(cli.NewEnv(streams))
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, cli.ErrProblems):
		return 1
	}
	fmt.Fprintln(streams.ErrOut, "error:", strings.TrimSpace(err.Error()))
	return 2
}

func newRoot(env *cli.Env) *cobra.Command {
	root := &cobra.Command{
		Use:   "kubectl-akv",
		Short: "Check, explain and diagnose secrets from Azure Key Vault",
		Long: `Check SecretProviderClasses for akv-csi-provider before you apply them, and find out why a pod
that mounts one does not start.

Exit codes: 0 all is well; 1 the command found problems; 2 it could not answer.`,
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl akv"},
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetIn(env.In)
	root.SetOut(env.Out)
	root.SetErr(env.ErrOut)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w\nSee '%s --help'", err, cmd.CommandPath())
	})
	for _, group := range []struct {
		title    string
		commands []*cobra.Command
	}{
		{"Write SecretProviderClasses:", []*cobra.Command{validate.New(env), initclass.New(env), schema.New(env), explain.New(env)}},
		{"Diagnose pods and nodes:", []*cobra.Command{doctor.New(env), status.New(env)}},
		{"Read Key Vault and migrate:", []*cobra.Command{preview.New(env), migrate.New(env)}},
	} {
		root.AddGroup(&cobra.Group{ID: group.title, Title: group.title})
		for _, cmd := range group.commands {
			cmd.GroupID = group.title
			root.AddCommand(cmd)
		}
	}
	root.AddCommand(version.New(env))
	return root
}
