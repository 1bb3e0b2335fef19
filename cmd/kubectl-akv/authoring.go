package main

import (
	"github.com/spf13/cobra"

	"akv-csi-provider/cmd/kubectl-akv/cli"
	"akv-csi-provider/cmd/kubectl-akv/validate"
)

// authoring returns the commands for those who write classes. They need no cluster.
func authoring(env *cli.Env) []*cobra.Command {
	return []*cobra.Command{validate.New(env)}
}
