// Package status shows how provider and driver are on each node, and which pods wait for them.
package status

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"akv-csi-provider/cmd/kubectl-akv/cli"
	"akv-csi-provider/cmd/kubectl-akv/cluster"
)

const long = `Show for each node whether the driver is registered and the provider ready, what the provider has counted
since it started, and which pods wait for a volume.

The counts come from the provider's metrics, through the API server, and the reasons of pods from their
events. What you have no right to read is listed at the end.`

const examples = `  # All nodes
  kubectl akv status

  # Again every five seconds
  kubectl akv status --watch

  # For scripts
  kubectl akv status -o json`

// New returns the command.
func New(env *cli.Env) *cobra.Command {
	var namespaces cluster.Namespaces
	var watch bool
	var interval time.Duration
	cmd := &cobra.Command{
		Use:               "status",
		Short:             "Show driver, provider and waiting pods of each node",
		Long:              long,
		Example:           examples,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	namespaces.AddFlags(cmd)
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show it again and again, until interrupted")
	cmd.Flags().DurationVar(&interval, "interval", 5*time.Second, "time between two updates of --watch, at least 1s")
	output := cli.AddOutputFlag(cmd, "table", "json", "yaml")
	env.AddClusterFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if interval < time.Second {
			return errors.New("--interval must be at least 1s")
		}
		show := func(ctx context.Context) error {
			summary, err := read(ctx, env, namespaces)
			if err != nil {
				return err
			}
			if watch && env.Terminal && *output == "table" {
				fmt.Fprint(env.Out, "\x1b[H\x1b[2J") // home, and clear the screen
			}
			if *output != "table" {
				err = cli.Encode(env.Out, *output, summary)
			} else {
				err = Print(env, summary)
			}
			if err == nil && summary.unhealthy() {
				err = cli.ErrProblems
			}
			return err
		}
		if !watch {
			return show(cmd.Context())
		}
		return repeat(cmd.Context(), interval, show)
	}
	return cmd
}

// repeat calls show until ctx is done, which is no error.
func repeat(ctx context.Context, interval time.Duration, show func(context.Context) error) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		if err := show(ctx); err != nil && !errors.Is(err, cli.ErrProblems) {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func read(ctx context.Context, env *cli.Env, namespaces cluster.Namespaces) (*Summary, error) {
	done := env.Progress("reading nodes, providers and pods")
	defer done()
	reader, err := cluster.New(env, namespaces) // a new one each time, since it reads nothing twice
	if err != nil {
		return nil, err
	}
	namespace, err := env.Namespace()
	if err != nil {
		return nil, err
	}
	return Collect(ctx, reader, namespace)
}

// Print prints a line for each node, and one for each pod that waits.
func Print(env *cli.Env, s *Summary) error {
	table := env.NewTable("NODE", "DRIVER", "PROVIDER", "VERSION", "VOLUMES", "MOUNTS", "FAILED MOUNTS", "FAILED ROTATIONS", "WAITING PODS")
	for _, n := range s.Nodes {
		row := []cli.Cell{{Text: n.Name}, driver(env, n), {Text: "none", Mark: env.Style.Faint}, {Text: "-"},
			{Text: "-"}, {Text: "-"}, {Text: "-"}, {Text: "-"}, {Text: fmt.Sprint(len(n.Waiting))}}
		if p := n.Provider; p != nil {
			row[2], row[3] = cli.Cell{Text: "ready", Mark: env.Style.Green}, cli.Cell{Text: p.Version}
			if !p.Ready {
				row[2] = cli.Cell{Text: p.Why, Mark: env.Style.Red}
			}
		}
		if n.Volumes != nil {
			row[4].Text = fmt.Sprint(*n.Volumes)
		}
		if m := n.Metrics; m != nil {
			row[5].Text, row[6].Text, row[7].Text = fmt.Sprint(m.Mounts["ok"]), byReason(m.Mounts), fmt.Sprint(m.FailedRotations)
		}
		if len(n.Waiting) > 0 {
			row[8].Mark = env.Style.Yellow
		}
		table.Row(row...)
	}
	if err := table.Print(); err != nil {
		return err
	}
	if err := printWaiting(env, s); err != nil {
		return err
	}
	for i, text := range s.NotSeen {
		if i == 0 {
			fmt.Fprintln(env.Out)
		}
		fmt.Fprintln(env.Out, env.Style.Faint("not seen: "+cli.Printable(text)))
	}
	return nil
}

func driver(env *cli.Env, n *Node) cli.Cell {
	switch {
	case n.Driver == nil:
		return cli.Cell{Text: "-"}
	case *n.Driver:
		return cli.Cell{Text: "registered", Mark: env.Style.Green}
	}
	return cli.Cell{Text: "none", Mark: env.Style.Faint}
}

// byReason lists the reasons of mounts that failed, the most frequent first.
func byReason(mounts map[string]int) string {
	reasons := slices.DeleteFunc(slices.Sorted(maps.Keys(mounts)), func(r string) bool { return r == "ok" || mounts[r] == 0 })
	slices.SortStableFunc(reasons, func(a, b string) int { return mounts[b] - mounts[a] })
	if len(reasons) == 0 {
		return "0"
	}
	texts := make([]string, len(reasons))
	for i, r := range reasons {
		texts[i] = fmt.Sprintf("%s %d", r, mounts[r])
	}
	return strings.Join(texts, ", ")
}

// shown is how many pods of a reason are named.
const shown = 3

// printWaiting lists the pods that wait, by reason.
func printWaiting(env *cli.Env, s *Summary) error {
	pods := make(map[string][]string)
	for _, n := range s.Nodes {
		for _, w := range n.Waiting {
			reason := strings.Join(w.Reasons, ",")
			switch {
			case reason == "" && w.Message != "":
				reason = "without a reason"
			case reason == "":
				reason = "no failure reported"
			}
			pods[reason] = append(pods[reason], w.Namespace+"/"+w.Pod)
		}
	}
	if len(pods) == 0 {
		return nil
	}
	fmt.Fprintln(env.Out)
	table := env.NewTable("WAITING FOR", "PODS", "SUCH AS")
	for _, reason := range slices.Sorted(maps.Keys(pods)) {
		names := pods[reason]
		table.Texts(reason, fmt.Sprint(len(names)), strings.Join(names[:min(shown, len(names))], ", "))
	}
	if err := table.Print(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(env.Out, "\nWhy one of them waits: kubectl akv doctor POD -n NAMESPACE")
	return err
}
