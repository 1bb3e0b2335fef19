package main

import (
	"github.com/spf13/cobra"

	"akv-csi-provider/cmd/kubectl-akv/cli"
	"akv-csi-provider/cmd/kubectl-akv/explain"
	"akv-csi-provider/cmd/kubectl-akv/initclass"
	"akv-csi-provider/cmd/kubectl-akv/schema"
	"akv-csi-provider/cmd/kubectl-akv/validate"
)

// authoring returns the commands that need no cluster.
func authoring(env *cli.Env) []*cobra.Command {
	return []*cobra.Command{validate.New(env), initclass.New(env), schema.New(env), explain.New(env)}
}
