package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// shell runs programs and logs every call with its output.
type shell struct {
	dir string
	env []string
	log io.Writer
}

// environment is that of the programs: what kubectl, Helm and crane write goes to a temporary
// folder, not to the user's. What make hands to the programs it starts is left out, since the
// quick start runs make itself.
func environment(own []string, temporary string) (env []string) {
	for _, v := range own {
		if name, _, _ := strings.Cut(v, "="); name != "MAKEFLAGS" && name != "MFLAGS" && name != "MAKELEVEL" && name != "MAKEOVERRIDES" {
			env = append(env, v)
		}
	}
	at := func(name string) string { return filepath.Join(temporary, name) }
	return append(env, "KUBECONFIG="+at("kubeconfig"), "DOCKER_CONFIG="+at("docker"), "HELM_CACHE_HOME="+at("helm-cache"),
		"HELM_CONFIG_HOME="+at("helm-config"), "HELM_DATA_HOME="+at("helm-data"), "AZURE_CORE_ONLY_SHOW_ERRORS=true")
}

// run returns what the program prints to its standard output. The error has the last line of its
// standard error. Where ctx ends, the program and its children are interrupted.
func (s shell) run(ctx context.Context, input, program string, args ...string) (string, error) {
	var out, problems bytes.Buffer
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Env, cmd.Stdin = s.dir, s.env, strings.NewReader(input)
	cmd.Stdout, cmd.Stderr = &out, &problems
	// A separate group: Ctrl-C in a terminal must not end the clean-up's commands.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = 20 * time.Second
	begun := time.Now()
	err := cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // its children
	}
	fmt.Fprintf(s.log, "%s %s %q (%v)\n%s%s", begun.Format(time.TimeOnly), program, args, time.Since(begun).Round(time.Millisecond), &out, &problems)
	if err != nil {
		fmt.Fprintln(s.log, "error:", err)
		if cause := context.Cause(ctx); cause != nil {
			return "", fmt.Errorf("%s: %w", name(program, args), cause)
		}
		return "", fmt.Errorf("%s: %w: %s", name(program, args), err, lastLine(problems.String(), out.String()))
	}
	return strings.TrimSpace(out.String()), nil
}

// name is the program with the words before its first option.
func name(program string, args []string) string {
	words := []string{filepath.Base(program)}
	for _, arg := range args {
		if strings.HasPrefix(arg, "-") {
			break
		}
		words = append(words, arg)
	}
	return strings.Join(words, " ")
}

// lastLine of the first text that has one.
func lastLine(texts ...string) string {
	for _, text := range texts {
		lines := strings.Split(strings.TrimSpace(text), "\n")
		if last := lines[len(lines)-1]; last != "" {
			return fmt.Sprintf("%.400s", last)
		}
	}
	return "no output"
}

func (t *trial) az(ctx context.Context, args ...string) (string, error) {
	return t.shell.run(ctx, "", "az", args...)
}

func (t *trial) kubectl(ctx context.Context, input string, args ...string) (string, error) {
	return t.shell.run(ctx, input, "kubectl", append([]string{"-n", t.values["NAMESPACE"]}, args...)...)
}

// eventually calls do until it succeeds, at most so often.
func (t *trial) eventually(ctx context.Context, attempts int, do func(context.Context) error) error {
	for {
		err := do(ctx)
		if attempts--; err == nil || attempts == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(t.pause):
		}
	}
}
