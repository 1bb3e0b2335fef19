// Package doctor finds out why a pod that mounts a SecretProviderClass does not start, or why its
// files are old.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"akv-csi-provider/cmd/kubectl-akv/cli"
	"akv-csi-provider/cmd/kubectl-akv/cluster"
)

const long = `Find out why a pod that mounts a SecretProviderClass does not start, or why its files are old.

The command checks what a mount needs, in that order: the driver and the provider on the pod's node, the
tokens that kubelet sends, the class, the identity, and then what the provider reported. The first problem
is the one to fix first. A line that says "not checked" is about something that you have no right to read.
Contents of Secrets are never requested.

Without POD the command checks all pods of the namespace that wait for a volume, or run with an empty one.`

const examples = `  # Why does this pod not start?
  kubectl akv doctor web-5d9c7b8f6-x2k4p -n shop

  # All pods of the cluster that wait for their volume
  kubectl akv doctor -A

  # The same with every check, for scripts
  kubectl akv doctor -A -o json`

// now is the clock; tests set it.
var now = time.Now

type options struct {
	all        bool
	namespaces cluster.Namespaces
	output     *cli.Output
}

// New returns the command.
func New(env *cli.Env) *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:     "doctor [POD]",
		Short:   "Find out why a pod does not start, or why its files are old",
		Long:    long,
		Example: examples,
		Args:    cobra.MaximumNArgs(1),
	}
	cmd.Flags().BoolVarP(&o.all, "all-namespaces", "A", false, "check the pods of all namespaces")
	o.namespaces.AddFlags(cmd)
	o.output = cli.AddOutputFlag(cmd, "text", "json", "yaml")
	env.AddClusterFlags(cmd)
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return complete(cmd.Context(), env, o), cobra.ShellCompDirectiveNoFileComp
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 && o.all {
			return errors.New("name a pod, or set --all-namespaces, not both")
		}
		reader, err := cluster.New(env, o.namespaces)
		if err != nil {
			return err
		}
		namespace, err := env.Namespace()
		if err != nil {
			return err
		}
		if len(args) == 1 {
			return one(cmd.Context(), env, reader, o, namespace, strings.TrimPrefix(args[0], "pod/"))
		}
		if o.all {
			namespace = ""
		}
		return several(cmd.Context(), env, reader, o, namespace)
	}
	return cmd
}

func complete(ctx context.Context, env *cli.Env, o options) []string {
	reader, err := cluster.New(env, o.namespaces)
	if err != nil {
		return nil
	}
	namespace, err := env.Namespace()
	if err != nil {
		return nil
	}
	pods, err := reader.Pods(ctx, namespace)
	if err != nil {
		return nil
	}
	names := make([]string, len(pods))
	for i, pod := range pods {
		names[i] = pod.Name
	}
	return names
}

// one checks a pod.
func one(ctx context.Context, env *cli.Env, reader *cluster.Reader, o options, namespace, name string) error {
	done := env.Progress("checking pod %s/%s", namespace, name)
	defer done()
	pod, err := reader.Kube.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if len(cluster.Volumes(pod)) == 0 {
		return fmt.Errorf("pod %s/%s has no volume of the Secrets Store CSI driver (csi.driver: %s)", namespace, name, cluster.DriverName)
	}
	report := Examine(ctx, reader, pod, now())
	if done(); ctx.Err() != nil {
		return ctx.Err()
	}
	if *o.output != "text" {
		err = cli.Encode(env.Out, *o.output, report)
	} else {
		err = show(env, report)
	}
	if err == nil && report.Problem != nil {
		err = cli.ErrProblems
	}
	return err
}

// several checks the pods that wait for a volume, or run with an empty one.
func several(ctx context.Context, env *cli.Env, reader *cluster.Reader, o options, namespace string) error {
	done := env.Progress("checking pods that wait for volumes")
	defer done()
	pods, err := reader.Pods(ctx, namespace)
	if err != nil {
		return err
	}
	reports := []*Report{}
	found := false
	for _, pod := range pods {
		if !suspect(ctx, reader, pod) {
			continue
		}
		report := Examine(ctx, reader, pod, now())
		found = found || report.Problem != nil
		reports = append(reports, report)
	}
	if done(); ctx.Err() != nil {
		return ctx.Err()
	}
	if *o.output != "text" {
		err = cli.Encode(env.Out, *o.output, map[string]any{"checked": len(pods), "pods": reports})
	} else {
		err = showAll(env, reports, len(pods))
	}
	if err == nil && found {
		err = cli.ErrProblems
	}
	return err
}

// suspect reports whether a pod waits, or may run with an empty volume.
func suspect(ctx context.Context, reader *cluster.Reader, pod *corev1.Pod) bool {
	if pod.Status.Phase == corev1.PodPending {
		return true
	}
	all, err := reader.Statuses(ctx, pod.Namespace)
	return err == nil && slices.ContainsFunc(cluster.Volumes(pod), func(v cluster.Volume) bool {
		return cluster.Mounted(all, pod, v.Class) == nil
	})
}
