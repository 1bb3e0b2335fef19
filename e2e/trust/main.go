// Command trust attacks the plugin. The plugin is the real binary under the limits of the
// manifests, called over its socket by the driver's client; Azure is the fake one of
// package azuretest, with hostile hosts beside it where an attack needs them. Meanwhile
// innocent pods of another namespace mount all the time: what they see, and whether the
// process lives, decides on each attack. All traffic stays on loopback.
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

// Exit codes.
const (
	exitOK     = 0
	exitBroken = 1 // or an attack could not be run
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], attacks(), os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// options is the command line.
type options struct {
	provider string
	manifest string
	names    *regexp.Regexp
	baseline time.Duration // how long it is measured
	short    bool
	soak     time.Duration // 0 attacks
	curves   string        // path of the picture
	list     bool
	json     bool
}

func parse(args []string, stderr io.Writer) (*options, error) {
	o := &options{names: regexp.MustCompile("")}
	f := flag.NewFlagSet("trust", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.provider, "provider", "../bin/akv-csi-provider", "`path` of the akv-csi-provider binary")
	f.StringVar(&o.manifest, "manifest", "../deploy/manifests/daemonset.yaml", "`path` of the DaemonSet whose limits and arguments apply")
	f.Func("attack", "`expression` that matches the names of the attacks to run", func(text string) (err error) {
		o.names, err = regexp.Compile(text)
		return err
	})
	f.BoolVar(&o.short, "short", false, "the short form: fewer and smaller attacks")
	f.DurationVar(&o.soak, "soak", 0, "run mixed load and faults for that `duration` instead, such as 1h")
	f.StringVar(&o.curves, "curves", "../bin/soak.svg", "`path` of the picture of the soak")
	f.BoolVar(&o.list, "list", false, "list the attacks and their bounds")
	f.BoolVar(&o.json, "json", false, "print JSON instead of a table")
	f.DurationVar(&o.baseline, "baseline", 5*time.Second, "how long innocents are watched without an attack")
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

// run runs those of all attacks that the arguments choose, and returns the exit code.
func run(ctx context.Context, args []string, all []attack, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		return exitUsage
	}
	if o.soak > 0 {
		all = []attack{soak(o.soak, o.curves)}
	}
	var chosen []attack
	for _, a := range all {
		if o.names.MatchString(a.name) && !(o.short && a.long) {
			chosen = append(chosen, a)
		}
	}
	if len(chosen) == 0 {
		fmt.Fprintf(stderr, "no attack's name matches %s; see --list\n", o.names)
		return exitUsage
	}
	if o.list {
		list(stdout, chosen)
		return exitOK
	}
	l, err := readLimits(o.manifest)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return exitUsage
	}
	debug.SetGCPercent(400) // what this process takes of the machine, the plugin lacks
	klog.LogToStderr(false) // the driver's code logs with klog
	klog.SetOutput(io.Discard)
	results := besiege(ctx, o, l, chosen, stderr)
	print := printTable
	if o.json {
		print = printJSON
	}
	if err := print(stdout, results); err != nil {
		fmt.Fprintln(stderr, err)
		return exitBroken
	}
	for _, r := range results {
		if !r.ok() {
			return exitBroken
		}
	}
	return exitOK
}

func list(out io.Writer, chosen []attack) {
	for _, a := range chosen {
		form := "long and short form"
		if a.long {
			form = "long form"
		}
		fmt.Fprintf(out, "%s: %s\n    %s\n    %s\n", a.name, a.about, a.bounds, form)
	}
}

// baseline is an attack that does nothing.
func baseline(lasts time.Duration) attack {
	return attack{name: "no attack", lasts: lasts, run: func(ctx context.Context, _ *siege) error {
		<-ctx.Done()
		return nil
	}}
}

// besiege runs the attacks one after another, after the baseline, and reports on progress
// how they went. Those that an interrupt left out become results with an error.
func besiege(ctx context.Context, o *options, l limits, chosen []attack, progress io.Writer) []*result {
	how := "in a cgroup"
	if c := newCgroup(l.memory); c.dir == "" {
		how = "watched by this suite, since it can make no cgroup"
	} else {
		c.remove()
	}
	fmt.Fprintf(progress, "%.0f MiB for the plugin, %s\n", mebibytes(l.memory), how)
	var calm time.Duration
	var results []*result
	for i, a := range append([]attack{baseline(o.baseline)}, chosen...) {
		fmt.Fprintf(progress, "%-28s", a.name)
		r := one(ctx, &a, o, l)
		if r.Error == "" && r.Skipped == "" {
			if i == 0 {
				calm = time.Duration(r.P99 * float64(time.Millisecond))
			}
			r.Broken = a.bounds.judge(r, calm, l.memory)
		}
		fmt.Fprintf(progress, "%6.1f s  %s\n", r.Seconds, r.verdict())
		results = append(results, r)
	}
	return results
}

func one(ctx context.Context, a *attack, o *options, l limits) *result {
	if ctx.Err() != nil {
		return &result{Attack: a.name, Error: "interrupted"}
	}
	if a.root && os.Geteuid() != 0 {
		return &result{Attack: a.name, Skipped: "needs root"}
	}
	r, err := a.execute(ctx, o, l)
	if err != nil {
		return &result{Attack: a.name, Error: err.Error()}
	}
	return r
}
