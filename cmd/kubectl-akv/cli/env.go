// Package cli is what the commands of kubectl-akv share: streams, the connection to a cluster,
// exit codes and output.
package cli

import (
	"errors"
	"os"

	"github.com/moby/term"
	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// ErrProblems ends a command with exit code 1: it has answered, and printed the problems that it
// found. Every other error means that the command could not answer: it is printed, and the exit
// code is 2.
var ErrProblems = errors.New("problems found")

// Env is what a command gets. Its fields are for tests to set too.
type Env struct {
	genericiooptions.IOStreams
	// Kube is the cluster of the user's kubeconfig. Only commands that call AddClusterFlags
	// have the flags that change it.
	Kube *genericclioptions.ConfigFlags
	// Terminal reports whether Out is a terminal, TerminalErr whether ErrOut is one, and
	// Interactive whether someone can answer a question: In and ErrOut are terminals.
	Terminal, TerminalErr, Interactive bool
	// Width is the number of columns of the terminal, 80 if Out is not one.
	Width int
	// Style marks text on a terminal. Its zero value leaves text as it is.
	Style Style
}

// NewEnv finds out what the streams are.
func NewEnv(streams genericiooptions.IOStreams) *Env {
	env := &Env{IOStreams: streams, Kube: genericclioptions.NewConfigFlags(true), Width: 80}
	fd, terminal := term.GetFdInfo(streams.Out)
	_, env.TerminalErr = term.GetFdInfo(streams.ErrOut)
	_, in := term.GetFdInfo(streams.In)
	env.Terminal = terminal
	env.Interactive = in && env.TerminalErr
	if terminal {
		if size, err := term.GetWinsize(fd); err == nil && size.Width > 0 {
			env.Width = int(size.Width)
		}
		// https://no-color.org
		env.Style = Style{enabled: os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
	}
	return env
}

// AddClusterFlags adds kubectl's flags for the cluster to connect to: --context, --namespace,
// --kubeconfig and the others.
func (e *Env) AddClusterFlags(cmd *cobra.Command) {
	e.Kube.AddFlags(cmd.Flags())
}

// Config returns what clients for the user's cluster are made of.
func (e *Env) Config() (*rest.Config, error) {
	config, err := e.Kube.ToRESTConfig()
	if err != nil {
		return nil, err
	}
	// client-go's limit of 5 requests per second is for controllers.
	config.QPS, config.Burst = 50, 300
	return config, nil
}

// Client returns a client for the user's cluster.
func (e *Env) Client() (*kubernetes.Clientset, error) {
	config, err := e.Config()
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(config)
}

// Namespace returns the namespace of --namespace, or of the kubeconfig's context.
func (e *Env) Namespace() (string, error) {
	namespace, _, err := e.Kube.ToRawKubeConfigLoader().Namespace()
	return namespace, err
}
