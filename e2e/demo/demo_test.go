package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"akv-csi-provider/e2e/plugin"
	"akv-csi-provider/provider/azuretest"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const examples = "../../deploy/examples/quick-start"

var provider string // path of the plugin's binary

func TestMain(m *testing.M) {
	os.Exit(plugin.Built(func(binary string) int {
		provider = binary
		return m.Run()
	}))
}

func TestStory(t *testing.T) {
	dir, err := os.MkdirTemp("", "akv") // short, for the path of a unix socket
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	t.Setenv("TMPDIR", dir)
	var out bytes.Buffer
	if err := run(t.Context(), &out, provider, examples); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	at := 0
	for _, want := range []string{
		"1. ", "2. ", "3. ", "4. ", "5. ", "6. ", "2 requests to Azure: 0 discovery, 1 token, 0 challenge, 1 get",
		"$ cat my-secret\n     Hello!\n", "7. ", "$ cat my-secret\n     Hello again!\n",
		"8. ", "subject \"system:serviceaccount:default:stranger\"", "[FederatedCredentialMissing]", "Every step succeeded.",
	} {
		i := strings.Index(out.String()[at:], want)
		if i < 0 {
			t.Fatalf("%q is missing after byte %d of\n%s", want, at, &out)
		}
		at += i
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}

	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := regexp.MustCompile(`(?m)^    (mounted in )\d+( ms .*)\n((?:    .*\n)+)`).FindSubmatch(readme)
	if shown == nil {
		t.Fatal("the README shows nothing of the demo")
	}
	for _, line := range strings.Split(strings.TrimSpace(string(shown[3])), "\n") {
		if !strings.Contains(out.String(), "\n     "+strings.TrimSpace(line)+"\n") {
			t.Errorf("the README shows %q, which is not in\n%s", line, &out)
		}
	}
	if first := regexp.QuoteMeta(string(shown[1])) + `\d+` + regexp.QuoteMeta(string(shown[2])); !regexp.MustCompile(first).MatchString(out.String()) {
		t.Errorf("the README shows %s, which is not in\n%s", first, &out)
	}
}

// A story with a failed step must fail.
func TestStoryFails(t *testing.T) {
	t.Run("plugin that ends", func(t *testing.T) {
		err := run(t.Context(), io.Discard, "false", examples)
		if err == nil || !strings.Contains(err.Error(), "ended at its start") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("class of another vault", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(examples)); err != nil {
			t.Fatal(err)
		}
		class := filepath.Join(dir, "secretproviderclass.yaml")
		text, err := os.ReadFile(class)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(class, bytes.ReplaceAll(text, []byte("${KEYVAULT_NAME}"), []byte("elsewhere")), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := run(t.Context(), io.Discard, provider, dir); err == nil || !strings.Contains(err.Error(), "elsewhere.vault.azure.net") {
			t.Errorf("got %v", err)
		}
	})
}

// started is the story up to a running node, before any pod.
func started(t *testing.T) *story {
	t.Helper()
	dir, err := os.MkdirTemp("", "akv") // short, for the path of a unix socket
	if err != nil {
		t.Fatal(err)
	}
	s, err := newStory(io.Discard, dir, examples)
	if err != nil {
		t.Fatal(err)
	}
	if err := inOrder(t.Context(), s.createCluster, s.createVault, s.createIdentity, s.annotateServiceAccount, s.federate); err != nil {
		t.Fatal(err)
	}
	if s.node, err = startNode(t.Context(), provider, dir, s.box, s.api); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := s.node.stop(ctx); err != nil {
			t.Errorf("stop: %v\n%s", err, s.node.Log())
		}
		if err := s.box.Close(); err != nil {
			t.Error(err)
		}
		_ = os.RemoveAll(dir)
	})
	return s
}

// The driver writes sub-directories, modes and bytes as the class says.
func TestDriverWritesFiles(t *testing.T) {
	s := started(t)
	s.vault.SetSecret("raw", azuretest.Secret{Value: "AP8K"})
	pod := s.pod
	pod.VolumeAttributes = map[string]string{"objects": `
array:
  - |
    objectName: my-secret
    objectType: secret
    objectAlias: app/greeting
    filePermission: 0400
  - |
    objectName: raw
    objectType: secret
    objectEncoding: base64
`}
	volume, err := s.node.mount(t.Context(), s.cluster, s.class, pod)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]struct {
		content string
		mode    os.FileMode
	}{"app/greeting": {"Hello!", 0o400}, "raw": {"\x00\xff\n", 0o644}} {
		path = filepath.Join(volume, path)
		got, err := os.ReadFile(path)
		if err != nil || string(got) != want.content {
			t.Errorf("%s: got %q, %v", path, got, err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != want.mode {
			t.Errorf("%s: got mode %v, %v", path, info.Mode(), err)
		}
	}
}

// Of a failure that gRPC may retry, the driver's client gets our words after one
// attempt, and the old files stay.
func TestDriverDoesNotRetry(t *testing.T) {
	s := started(t)
	volume, err := s.node.mount(t.Context(), s.cluster, s.class, s.pod)
	if err != nil {
		t.Fatal(err)
	}
	s.box.ResetCounts()
	s.box.SetFault(azuretest.Token, azuretest.Fault{HTML: true, Status: 502})
	_, err = s.node.mount(t.Context(), s.cluster, s.class, s.pod)
	if status.Code(err) != codes.FailedPrecondition || !strings.HasSuffix(err.Error(), "[ServiceUnavailable]") {
		t.Errorf("got %v", err)
	}
	const attempts = 1 + 3 // of the plugin itself, with its default --retry-max
	if got := s.box.Count(azuretest.Token); got != attempts {
		t.Errorf("%d requests, want %d", got, attempts)
	}
	if got, err := os.ReadFile(filepath.Join(volume, "my-secret")); string(got) != "Hello!" {
		t.Errorf("the old file contains %q, %v", got, err)
	}
}

// No word of a secret, a token or the request gets into the plugin's log, at any
// verbosity.
func TestLogHoldsNoSecrets(t *testing.T) {
	s := started(t)
	if err := inOrder(t.Context(), s.startPod, s.rotate, s.startStranger); err != nil {
		t.Fatal(err)
	}
	if err := s.node.Stop(t.Context()); err != nil { // which writes what remains of the log
		t.Fatal(err)
	}
	log := s.node.Log()
	for _, want := range []string{"mounted", "pod=quick-start", "FederatedCredentialMissing"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %q:\n%s", want, log)
		}
	}
	for _, leak := range []string{"Hello", "eyJ", "serviceAccount.tokens"} {
		if strings.Contains(log, leak) {
			t.Errorf("the log contains %q:\n%s", leak, log)
		}
	}
}
