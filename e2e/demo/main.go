// Command demo shows a secret travel on one machine: from the vault through the plugin
// and the Secrets Store CSI driver's own code into a pod's volume. Azure is the fake one
// of package azuretest; the plugin is the real binary.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"k8s.io/klog/v2"
)

func main() {
	provider := flag.String("provider", "", "`path` of the akv-csi-provider binary")
	examples := flag.String("examples", "../deploy/examples/quick-start", "`folder` of the manifests to read")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	err := run(ctx, os.Stdout, *provider, *examples)
	cancel()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "\ndemo:", err)
		os.Exit(1)
	}
}

// run writes the story to out. It returns nil only if every step succeeded.
func run(ctx context.Context, out io.Writer, provider, examples string) error {
	klog.LogToStderr(false) // the driver's code logs with klog; the story is ours
	klog.SetOutput(io.Discard)
	dir, err := os.MkdirTemp("", "akv") // short, for the path of a unix socket
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s, err := newStory(out, dir, examples)
	if err != nil {
		return err
	}
	defer s.box.Close()
	return s.run(ctx, provider)
}
