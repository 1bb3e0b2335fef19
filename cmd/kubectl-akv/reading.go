package main

import (
	"github.com/spf13/cobra"

	"akv-csi-provider/cmd/kubectl-akv/cli"
)

// reading returns the commands that read vaults, and all classes of a cluster.
func reading(env *cli.Env) []*cobra.Command {
	return nil
}
