// Command bench measures the plugin against targets: how long mounts
// take, how many requests they send to Azure, and what the plugin needs for it. The
// plugin is the real binary in its own process, called over its socket by the driver's
// client; Azure is the fake one of package azuretest, in this process, with the
// latencies of a real one. As both share the machine's processors, times are somewhat
// longer than against a remote Azure.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"runtime/debug"
	"syscall"
	"time"

	"k8s.io/klog/v2"
)

// caseTimeout ends a case that hangs.
const caseTimeout = 3 * time.Minute

// Exit codes.
const (
	exitOK     = 0
	exitMissed = 1 // or a case could not be measured
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], cases(), os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// options is the command line.
type options struct {
	provider string
	names    *regexp.Regexp
	list     bool
	json     bool
	strict   bool
}

func parse(args []string, stderr io.Writer) (*options, error) {
	o := &options{names: regexp.MustCompile("")}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.provider, "provider", "../bin/akv-csi-provider", "`path` of the akv-csi-provider binary")
	f.Func("case", "`expression` that matches the names of the cases to run", func(text string) (err error) {
		o.names, err = regexp.Compile(text)
		return err
	})
	f.BoolVar(&o.list, "list", false, "list the cases and their targets")
	f.BoolVar(&o.json, "json", false, "print JSON instead of a table")
	f.BoolVar(&o.strict, "strict", false, "fail also if a target of time or memory is missed")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		err := fmt.Errorf("unknown argument %q", f.Arg(0))
		fmt.Fprintln(stderr, err)
		return nil, err
	}
	return o, nil
}

// run measures those of all cases that the arguments choose, and returns the exit code.
func run(ctx context.Context, args []string, all []benchmark, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		return exitUsage
	}
	var chosen []benchmark
	for _, c := range all {
		if o.names.MatchString(c.name) {
			chosen = append(chosen, c)
		}
	}
	if len(chosen) == 0 {
		fmt.Fprintf(stderr, "no case's name matches %s; see --list\n", o.names)
		return exitUsage
	}
	if o.list {
		list(stdout, chosen)
		return exitOK
	}
	debug.SetGCPercent(400) // what this process takes of the machine, the plugin lacks
	klog.LogToStderr(false) // the driver's code logs with klog
	klog.SetOutput(io.Discard)
	rows := measure(ctx, o.provider, chosen, stderr)
	printRows := printTable
	if o.json {
		printRows = printJSON
	}
	if err := printRows(stdout, rows); err != nil {
		fmt.Fprintln(stderr, err)
		return exitMissed
	}
	for _, r := range rows {
		if !r.met(o.strict) {
			return exitMissed
		}
	}
	return exitOK
}

func list(out io.Writer, chosen []benchmark) {
	for _, c := range chosen {
		fmt.Fprintf(out, "%s: %s\n", c.name, c.about)
		for _, t := range c.targets {
			fmt.Fprintf(out, "    %s\n", t)
		}
	}
}

// measure runs the cases one after another and reports on progress how they went. Those
// that an interrupt left out become rows with an error.
func measure(ctx context.Context, provider string, chosen []benchmark, progress io.Writer) []row {
	var rows []row
	for _, c := range chosen {
		fmt.Fprintf(progress, "%-26s", c.name)
		start := time.Now()
		ctx, cancel := context.WithTimeout(ctx, caseTimeout)
		r := c.row(c.measure(ctx, provider))
		cancel()
		r.progress(progress, time.Since(start))
		rows = append(rows, r)
	}
	return rows
}
