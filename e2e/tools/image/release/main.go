// Command release builds all that users of a version get, and pushes it to a registry: see
// deploy/VERSIONS.md for what that is. Building signs nothing and needs no registry, so that two
// clones of a commit give equal bytes; pushing signs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

const usage = `usage:
  release build --version=v1.2.3 --registry=REGISTRY/FOLDER [flags]
  release push [--sign=KEY|keyless] [flags]
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	command := strings.Join(args[:min(1, len(args))], "")
	flags := flag.NewFlagSet("release "+command, flag.ContinueOnError)
	out := flags.String("out", "../../../dist", "`folder` of the release")
	switch command {
	case "build":
		var o options
		flags.StringVar(&o.version, "version", "", "semantic `version` with a v, such as v1.2.3")
		flags.StringVar(&o.registry, "registry", "", "`registry` and folder that the image and the chart will be in")
		flags.StringVar(&o.url, "url", "", "`URL` of the source repository")
		flags.StringVar(&o.downloads, "downloads", "", "`URL` of the folder with the release's files; the source repository's releases if empty")
		flags.StringVar(&o.builder, "builder", "", "`URL` that identifies who builds, for the provenance; the source repository's if empty")
		flags.StringVar(&o.source, "source", "../../..", "the project's `root`")
		flags.StringVar(&o.helm, "helm", "../../../bin/helm", "the `program` Helm")
		flags.StringVar(&o.only, "only", "", "a `platform` such as linux/amd64, to build for no other; for tests")
		if err := parse(flags, args[1:]); err != nil {
			return err
		}
		o.out, o.progress = *out, os.Stdout
		return build(ctx, o)
	case "push":
		p := push{progress: os.Stdout}
		flags.StringVar(&p.sign, "sign", "", "`key` for cosign, or keyless; empty signs nothing")
		flags.StringVar(&p.cosign, "cosign", "../../../bin/cosign", "the `program` cosign")
		if err := parse(flags, args[1:]); err != nil {
			return err
		}
		p.out = *out
		return p.run(ctx)
	}
	fmt.Fprint(os.Stderr, usage)
	return flag.ErrHelp
}

func parse(flags *flag.FlagSet, args []string) error {
	if err := flags.Parse(args); err != nil {
		return flag.ErrHelp // it was printed
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unknown argument %q", flags.Arg(0))
	}
	return nil
}
