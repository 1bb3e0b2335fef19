package server_test

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"
	"time"

	"akv-csi-provider/provider/azuretest"
	"akv-csi-provider/provider/entra"

	"google.golang.org/grpc/status"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

// syncRequest is what secrets-store-sync-controller v0.0.4 sends for a SecretSync of w.pod's
// namespace and ServiceAccount (its internal/controller/secretsync_controller.go and
// pkg/provider/provider_client.go): the parameters of the class without its name, pod name
// and UID of the controller itself, tokens of ten minutes, an empty map of secrets, and one
// target path for all. audiences are its --token-request-audience.
func (w *world) syncRequest(t *testing.T, parameters map[string]string, audiences ...string) *v1alpha1.MountRequest {
	t.Helper()
	attributes := maps.Clone(parameters)
	maps.Copy(attributes, map[string]string{
		"csi.storage.k8s.io/pod.name":            "secrets-store-sync-controller-manager-5d4f9c7b8-x2x7k",
		"csi.storage.k8s.io/pod.uid":             "0d9d6f4e-0000-4000-8000-000000000001",
		"csi.storage.k8s.io/pod.namespace":       w.pod.Namespace,
		"csi.storage.k8s.io/serviceAccount.name": w.pod.ServiceAccount,
	})
	tokens := make(map[string]string)
	for _, audience := range audiences {
		token, err := w.cluster.Token(w.pod, audience, 10*time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		tokens[audience] = token
	}
	if len(tokens) > 0 {
		attributes["csi.storage.k8s.io/serviceAccount.tokens"] = w.cluster.Projected(tokens)
	}
	text, err := json.Marshal(attributes)
	if err != nil {
		t.Fatal(err)
	}
	return &v1alpha1.MountRequest{Attributes: string(text), Secrets: "{}", Permission: "420", TargetPath: "/mnt/secrets-store"}
}

// classOf are the parameters of a class with one secret, and another file besides.
func classOf(file string) map[string]string {
	return map[string]string{"keyvaultName": "contoso", "tenantID": tenantID, "clientID": clientID,
		"objects": "- {objectName: my-secret, objectType: secret}\n- {objectName: my-secret, objectType: secret, objectAlias: " + file + "}\n"}
}

// The first sync of a SecretSync reads the vault, whatever other SecretSyncs of its namespace
// and ServiceAccount have synced; the next ones are rotations, also with renewed tokens.
func TestSyncController(t *testing.T) {
	w := newWorld(t, setup{})
	sync := func(file string) string { return w.mounted(t, w.syncRequest(t, classOf(file), entra.Audience)) }
	set := func(value string, created time.Duration) {
		w.vault.SetSecret("my-secret", azuretest.Secret{Value: value, Created: time.Now().Add(created)})
	}
	if a, b := sync("a"), sync("b"); a != "Hello!" || b != "Hello!" {
		t.Errorf("got %q and %q", a, b)
	}
	set("newer", time.Second)
	if got := sync("a"); got != "Hello!" { // as b has just read it
		t.Errorf("a poll got %q: it counts as a first sync", got)
	}
	if got := sync("c"); got != "newer" {
		t.Errorf("the first sync of another class got %q", got)
	}
	if got := sync("b"); got != "newer" { // as c has just read it
		t.Errorf("the next poll got %q", got)
	}
	if got, want := w.seen.rotations(), "unchanged,changed"; got != want {
		t.Errorf("rotations %s, want %s", got, want)
	}
}

// A controller without --token-request-audience sends no token. The message names its own
// setting too: there may be no CSIDriver.
func TestSyncControllerWithoutToken(t *testing.T) {
	w := newWorld(t, setup{})
	class := classOf("a")
	for _, reason := range []string{"TokenRequestMissing", "NoIdentity"} {
		_, err := w.mount(t, w.syncRequest(t, class))
		message := status.Convert(err).Message()
		if !strings.HasSuffix(message, "["+reason+"]") || !strings.Contains(message, "--token-request-audience") {
			t.Errorf("got %q", message)
		}
		delete(class, "clientID")
	}
}
