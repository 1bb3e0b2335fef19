// Command kubectl-akv is a kubectl plugin for those who write SecretProviderClasses for
// akv-csi-provider and for those whose pods do not start. It judges classes with the
// provider's own packages, so both always agree.
package main

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/moby/term"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	// Users and service accounts of a kubeconfig may need these to authenticate.
	_ "k8s.io/client-go/plugin/pkg/client/auth"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	in, out, errOut := term.StdStreams()
	code := run(ctx, arguments(os.Args), genericiooptions.IOStreams{In: in, Out: out, ErrOut: errOut})
	stop()
	os.Exit(code)
}

// arguments returns the command line without the program's name. kubectl completes the command
// line of a plugin with a program kubectl_complete-NAME: under that name, the plugin completes.
func arguments(args []string) []string {
	name := strings.TrimSuffix(filepath.Base(args[0]), ".exe")
	if name == "kubectl_complete-akv" {
		return append([]string{"__complete"}, args[1:]...)
	}
	return args[1:]
}
