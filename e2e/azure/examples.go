package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// example is a folder of deploy/examples with what its pod prints.
type example struct {
	folder    string
	federated bool     // the pod signs in by workload identity
	client    string   // variable with the client ID, if it is not CLIENT_ID
	prints    string   // regular expression
	show      []string // kubectl arguments that print it, if it is not the log of a pod that ends
}

var examples = []example{
	{folder: "environment", federated: true, prints: "Hello!", show: []string{"logs", "deployment/environment"}},
	{folder: "ingress-tls", federated: true, prints: "kubernetes.io/tls", show: []string{"get", "secret", "ingress-tls", "-o", "jsonpath={.type}"}},
	{folder: "several-versions", federated: true, prints: "Hello!Hello!Hello!"},
	{folder: "several-vaults", federated: true, prints: "Hello!of all"},
	{folder: "optional-objects", federated: true, prints: "Hello!my-secret"},
	{folder: "search", federated: true, prints: "s3cretpayWORKER_QUEUE=orders"},
	{folder: "json-pieces", federated: true, prints: "apps3cretinfoorders"},
	{folder: "certificate-pieces", federated: true, prints: `(?s)-rw-r--r-- [^\n]*/keystore\.p12.*-rw-r--r-- [^\n]*/tls\.crt.*-r-------- [^\n]*/tls\.key`},
	{folder: "documents", federated: true, prints: "\\[database]\nuser = app\npassword = \"s3cret\"\n\n\\[features]\nsearch = on"},
	{folder: "managed-identity", client: "KUBELET_CLIENT_ID", prints: "Hello!"},
}

// An attempt waits 15 s for a pod to end.
const podAttempts = 24

// applyExamples creates all of them, so that they wait for Azure at the same time.
func (t *trial) applyExamples(ctx context.Context) error {
	for _, e := range examples {
		files, err := filepath.Glob(filepath.Join(t.root, "deploy", "examples", e.folder, "*.yaml"))
		if err != nil {
			return err
		}
		var manifests strings.Builder
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			manifests.Write(text)
		}
		var unknown error
		text := os.Expand(manifests.String(), func(name string) string {
			if name == "CLIENT_ID" && e.client != "" {
				name = e.client
			}
			if t.values[name] == "" {
				unknown = fmt.Errorf("deploy/examples/%s needs %s, which this program does not set", e.folder, name)
			}
			return t.values[name]
		})
		if unknown != nil {
			return unknown
		}
		if _, err := t.kubectl(ctx, text, "apply", "-f", "-"); err != nil {
			return fmt.Errorf("%s: %w", e.folder, err)
		}
	}
	return nil
}

// example waits for what the example prints, and adds its row.
func (t *trial) example(ctx context.Context, e example) {
	r := result{name: "example " + e.folder, want: quoted(e.prints)}
	begun := time.Now()
	show := e.show
	if show == nil {
		show = []string{"logs", e.folder}
	}
	r.got = t.printed(ctx, e.folder, e.prints, show, e.show == nil)
	r.took = time.Since(begun)
	t.add(r)
}

// quoted is a pattern in the table.
func quoted(pattern string) string { return fmt.Sprintf("%.40q", pattern) }

// printed returns the quoted pattern if kubectl prints what matches it in time; else what it
// printed, or why the pod does not start.
func (t *trial) printed(ctx context.Context, pod, pattern string, show []string, ends bool) string {
	expression := regexp.MustCompile("^(?:" + pattern + ")$")
	var last string
	err := t.eventually(ctx, podAttempts, func(ctx context.Context) error {
		if ends {
			if _, err := t.kubectl(ctx, "", "wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/"+pod, "--timeout=15s"); err != nil {
				return err
			}
		}
		out, err := t.kubectl(ctx, "", show...)
		if err != nil {
			return err
		}
		if last = out; !expression.MatchString(out) {
			return fmt.Errorf("printed %.80q", out)
		}
		return nil
	})
	if err == nil {
		return quoted(pattern)
	}
	if last == "" {
		if messages, err := t.failedMounts(ctx); err == nil {
			for name, message := range messages {
				if name == pod || strings.HasPrefix(name, pod+"-") {
					return reasonOf(message)
				}
			}
		}
	}
	return err.Error()
}
