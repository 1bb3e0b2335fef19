// Package explain shows what the troubleshooting guide says about a reason.
package explain

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"akv-csi-provider/cmd/kubectl-akv/cli"
	"akv-csi-provider/cmd/kubectl-akv/guide"
)

const long = `Explain a reason, the word in brackets at the end of an error of the provider, with the commands that
find and remove the cause. The whole message of an event or a line of a log will do as well: then the
command explains every reason in it. Without an argument it lists all reasons. It needs no network.`

const examples = `  # List all reasons
  kubectl akv explain

  # Explain one
  kubectl akv explain VaultFirewall

  # Explain the message of an event
  kubectl akv explain 'MountVolume.SetUp failed for volume "secrets": not found in kv-contoso.vault.azure.net: secret "db"; check objectName [ObjectNotFound]'`

// New returns the command.
func New(env *cli.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:               "explain [REASON]",
		Short:             "Explain the reason of an error",
		Long:              long,
		Example:           examples,
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: complete,
	}
	output := cli.AddOutputFlag(cmd, "text", "json", "yaml")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return list(env, *output)
		}
		text := strings.Join(args, " ")
		found := guide.Find(text)
		if len(found) == 0 {
			return unknown(text)
		}
		if *output != "text" {
			return cli.Encode(env.Out, *output, found)
		}
		for i, entry := range found {
			if i > 0 {
				fmt.Fprintln(env.Out)
			}
			show(env, entry)
		}
		return nil
	}
	return cmd
}

func show(env *cli.Env, entry guide.Entry) {
	if entry.Reason == "" {
		fmt.Fprintf(env.Out, "%s\n%s", env.Style.Bold("Not from the provider"), guide.Render(entry.Text, env.Width, env.Style))
		return
	}
	text := entry.Text
	if strings.Contains(text, `"$`) {
		text += "\n\nThe commands use your names, such as `$KEYVAULT_NAME`: export them first."
	}
	fmt.Fprintf(env.Out, "%s\n%s\n%s", env.Style.Bold(entry.Reason), guide.Render(entry.Meaning, env.Width, env.Style), guide.Render(text, env.Width, env.Style))
}

func list(env *cli.Env, output cli.Output) error {
	if output != "text" {
		return cli.Encode(env.Out, output, guide.Reasons())
	}
	table := env.NewTable("REASON", "MEANING")
	for _, entry := range guide.Reasons() {
		table.Texts(entry.Reason, entry.Meaning)
	}
	return table.Print()
}

func unknown(text string) error {
	if near := guide.Near(text); near != "" {
		return fmt.Errorf("no reason is named %.64q; did you mean %s?", text, near)
	}
	return fmt.Errorf("no reason is in %.64q; kubectl akv explain lists all", text)
}

func complete(_ *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
	var found []cobra.Completion
	for _, entry := range guide.Reasons() {
		if len(args) == 0 && strings.HasPrefix(strings.ToLower(entry.Reason), strings.ToLower(prefix)) {
			found = append(found, cobra.CompletionWithDesc(entry.Reason, entry.Meaning))
		}
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}
