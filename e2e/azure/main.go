// Command azure runs the quick start, the examples and the errors of the reference against a real
// Azure subscription, and deletes what it created. Environment variables are its only input: see
// the section "A real subscription" of e2e/README.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// The exit codes. A run with unusable prerequisites has created nothing.
const (
	exitOK          = 0
	exitFailed      = 1
	exitMissing     = 2
	exitInterrupted = 130
)

// What a run may take, so that its cost has a limit.
const (
	runLimit     = 2 * time.Hour
	cleanUpLimit = 45 * time.Minute
)

const plan = `Runs deploy/QUICKSTART.md, deploy/examples and the errors of provider/README.md against Azure.
  duration   about an hour, at most %v, of which the cluster takes 10 minutes and the clean-up another 10
  cost       about 1 US dollar (estimated from list prices); about 10 dollars a day for what is not deleted
  creates    resource group %s in %s, with one AKS cluster of one node, a Basic registry, 4 key vaults
             and 3 managed identities; AKS adds the group MC_%[2]s_%[4]s_%[3]s
  clean-up   %[5]s
`

func main() {
	root := flag.String("root", "..", "`folder` of the project")
	pause := flag.Duration("pause", 10*time.Second, "`time` between attempts while something propagates")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, stop, os.Stdout, *root, *pause)
	stop()
	os.Exit(code)
}

// run does everything and returns the exit code. After the first signal ctx is done; release lets
// the clean-up catch the next one.
func run(ctx context.Context, release func(), out io.Writer, root string, pause time.Duration) int {
	s, err := fromEnvironment(os.Getenv)
	if err != nil {
		fmt.Fprintf(out, "%v\nSee \"A real subscription\" in e2e/README.md.\n", err)
		return exitMissing
	}
	after := "always, also after a failure and Ctrl-C; after kill -9: make e2e-azure E2E_CLEAN=yes"
	if s.keep {
		after = "none (E2E_KEEP=yes); later: make e2e-azure E2E_CLEAN=yes"
	}
	fmt.Fprintf(out, plan, runLimit, s.group, s.location, s.cluster, after)
	temporary, err := os.MkdirTemp("", "e2e-azure")
	if err != nil {
		fmt.Fprintln(out, err)
		return exitMissing
	}
	defer os.RemoveAll(temporary)
	t, err := newTrial(s, out, root, temporary, pause)
	if err != nil {
		fmt.Fprintln(out, err)
		return exitMissing
	}
	defer t.log.Close()
	if missing := t.check(ctx); ctx.Err() != nil {
		return exitInterrupted
	} else if missing > 0 {
		fmt.Fprintf(out, "\n%d missing; nothing was created\n", missing)
		return exitMissing
	}
	if !s.clean {
		limited, cancel := context.WithTimeoutCause(ctx, runLimit, fmt.Errorf("not done after %v", runLimit))
		err = t.all(limited)
		cancel()
	}
	interrupted := ctx.Err() != nil
	release()
	if !s.keep || s.clean {
		err = errors.Join(err, t.cleanUpAfter(ctx))
	}
	t.table()
	switch {
	case err != nil:
		fmt.Fprintf(out, "\n%v\nAll commands and their output: %s\n", err, t.log.Name())
	case s.keep && !s.clean:
		fmt.Fprintf(out, "\nEverything is still there. For kubectl: az aks get-credentials -g %s -n %s\n", s.group, s.cluster)
	}
	switch {
	case interrupted:
		return exitInterrupted
	case err != nil || t.failed():
		return exitFailed
	}
	return exitOK
}

// trial is one run: its names, the commands it calls, and the rows of its table.
type trial struct {
	settings
	out     io.Writer
	log     *os.File
	root    string
	shell   shell
	values  map[string]string // the variables of the quick start, which grow with its steps
	user    account
	pause   time.Duration
	started time.Time
	rows    []result
}

func newTrial(s settings, out io.Writer, root, temporary string, pause time.Duration) (*trial, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(root, "bin"), 0o755); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(root, "bin", "e2e-azure.log"), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	return &trial{
		settings: s, out: out, log: log, root: root, pause: pause, started: time.Now(),
		shell:  shell{dir: root, log: log, env: environment(os.Environ(), temporary)},
		values: s.values(),
	}, nil
}

// all runs every row. What fails in the quick start or in Azure's preparation ends it; a row that
// fails does not.
func (t *trial) all(ctx context.Context) error {
	document, err := readQuickStart(t.root, t.values)
	if err != nil {
		return err
	}
	for _, s := range document.steps {
		if err := t.step(ctx, "quick start: "+s.title, func(ctx context.Context) error { return t.section(ctx, s) }); err != nil {
			return err
		}
	}
	for _, s := range t.preparation() {
		if err := t.step(ctx, "prepare: "+s.title, s.do); err != nil {
			return err
		}
	}
	if err := t.step(ctx, "examples: apply", t.applyExamples); err != nil {
		return err
	}
	for _, e := range examples {
		if t.example(ctx, e); ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	if err := t.step(ctx, "cases: apply", t.applyCases); err != nil {
		return err
	}
	t.refused(ctx)
	t.mounted(ctx)
	if ctx.Err() != nil || t.keep {
		return context.Cause(ctx)
	}
	return t.step(ctx, "quick start: "+document.cleanUp.title, func(ctx context.Context) error { return t.section(ctx, document.cleanUp) })
}

// cleanUpAfter deletes everything. ctx may be done; a second signal ends the clean-up.
func (t *trial) cleanUpAfter(ctx context.Context) error {
	ctx, stop := signal.NotifyContext(context.WithoutCancel(ctx), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, cleanUpLimit)
	defer cancel()
	err := t.step(ctx, "clean-up", t.cleanUp)
	if err != nil {
		return fmt.Errorf("%w\nThe clean-up is NOT complete, and what is left costs money: run make e2e-azure E2E_CLEAN=yes "+
			"with the same variables, or delete the resource group %s in the portal", err, t.group)
	}
	return nil
}
