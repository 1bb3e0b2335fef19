package main

import (
	"github.com/spf13/cobra"

	"akv-csi-provider/cmd/kubectl-akv/cli"
)

// diagnosing returns the commands for those whose pods do not start.
func diagnosing(env *cli.Env) []*cobra.Command {
	return nil
}
