package main

import (
	"github.com/spf13/cobra"

	"akv-csi-provider/cmd/kubectl-akv/cli"
	"akv-csi-provider/cmd/kubectl-akv/doctor"
	"akv-csi-provider/cmd/kubectl-akv/status"
)

// diagnosing returns the commands for those whose pods do not start.
func diagnosing(env *cli.Env) []*cobra.Command {
	return []*cobra.Command{doctor.New(env), status.New(env)}
}
