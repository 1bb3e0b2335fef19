package main

import (
	"github.com/spf13/cobra"

	"akv-csi-provider/cmd/kubectl-akv/cli"
	"akv-csi-provider/cmd/kubectl-akv/migrate"
	"akv-csi-provider/cmd/kubectl-akv/preview"
)

// reading returns the commands that read vaults, and all classes of a cluster.
func reading(env *cli.Env) []*cobra.Command {
	return []*cobra.Command{preview.New(env), migrate.New(env)}
}
