// Command akv-csi-provider is a provider plugin for the Kubernetes Secrets Store
// CSI driver: on each node it reads secrets from Azure Key Vault for the node's
// pods, each with the pod's own identity.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := start(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// start returns the exit code: 0 after an orderly stop, 1 if the plugin cannot
// run, 2 for a command line it does not understand.
func start(ctx context.Context, args []string) int {
	cfg, err := parseFlags(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(os.Stdout, usage())
		return 0
	case err != nil:
		complain(err)
		return 2
	case cfg.showVersion:
		fmt.Println(versionLine())
		return 0
	}
	if err := checkDebug(os.Getenv("GODEBUG")); err != nil {
		complain(err)
		return 1
	}
	if err := run(ctx, cfg, os.Stderr); err != nil {
		complain(err)
		return 1
	}
	return 0
}

// http2Debug is a setting of GODEBUG as net/http and golang.org/x/net/http2 recognize it: with
// any text before it.
var http2Debug = regexp.MustCompile(`http2debug=([^,]*)`)

// checkDebug refuses a GODEBUG with which Go prints the headers and bodies of all HTTP/2
// requests to standard error, and so tokens, client secrets and the values of secrets.
func checkDebug(godebug string) error {
	for _, setting := range http2Debug.FindAllStringSubmatch(godebug, -1) {
		if setting[1] != "0" {
			return fmt.Errorf("GODEBUG contains %s, which prints tokens and secrets to the log; remove it", setting[0])
		}
	}
	return nil
}

// complain reports an error in one line, whatever the argument it quotes: those
// of a DaemonSet written as YAML block scalars end with a line break.
func complain(err error) {
	fmt.Fprintln(os.Stderr, "akv-csi-provider:", strings.Join(strings.Fields(err.Error()), " "))
}
