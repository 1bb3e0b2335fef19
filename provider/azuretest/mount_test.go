package azuretest_test

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"akv-csi-provider/provider/azuretest"
)

const class = `apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata:
  name: contoso
spec:
  provider: azure
  parameters:
    keyvaultName: contoso
    tenantID: "11111111-2222-3333-4444-555555555555"
    objects: |
      array:
        - |
          objectName: my-secret
          objectType: secret
`

// The bytes are those of the driver's nodeserver, and the message carries nothing else.
func TestMountRequest(t *testing.T) {
	now := &clock{now: time.Date(2030, 1, 2, 3, 4, 5, 678, time.UTC)}
	w := newWorld(t, azuretest.Options{Clock: now.Now})
	token, err := w.cluster.Token(w.pod, azuretest.TokenExchangeAudience, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	w.pod.UID = "7a1c4d1e-0000-4000-8000-000000000000"
	w.pod.VolumeAttributes = map[string]string{
		"keyvaultName": "fabrikam", "secretProviderClass": "contoso", "csi.storage.k8s.io/pod.name": "forged",
	}
	got, err := w.cluster.MountRequest([]byte(class), w.pod, map[string]string{azuretest.TokenExchangeAudience: token}, "/var/lib/kubelet/mount")
	if err != nil {
		t.Fatal(err)
	}
	want := &v1alpha1.MountRequest{
		Attributes: `{"csi.storage.k8s.io/ephemeral":"true","csi.storage.k8s.io/pod.name":"quick-start","csi.storage.k8s.io/pod.namespace":"shop",` +
			`"csi.storage.k8s.io/pod.uid":"7a1c4d1e-0000-4000-8000-000000000000","csi.storage.k8s.io/serviceAccount.name":"reader",` +
			`"csi.storage.k8s.io/serviceAccount.tokens":"{\"api://AzureADTokenExchange\":{\"token\":\"` + token + `\",\"expirationTimestamp\":\"2030-01-02T04:04:05Z\"}}",` +
			`"keyvaultName":"fabrikam","objects":"array:\n  - |\n    objectName: my-secret\n    objectType: secret\n",` +
			`"secretProviderClass":"contoso","tenantID":"11111111-2222-3333-4444-555555555555"}`,
		Secrets: "null", TargetPath: "/var/lib/kubelet/mount", Permission: "420",
	}
	if !proto.Equal(got, want) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func attributes(t *testing.T, r *v1alpha1.MountRequest) map[string]string {
	t.Helper()
	var a map[string]string
	if err := json.Unmarshal([]byte(r.GetAttributes()), &a); err != nil {
		t.Fatal(err)
	}
	return a
}

const tokensAttribute = "csi.storage.k8s.io/serviceAccount.tokens"

// Tokens come as the CSIDriver requests them: not at all, in the attributes, or in the secrets.
func TestMountRequestTokens(t *testing.T) {
	w := newWorld(t, azuretest.Options{})
	request := func(p azuretest.Pod, tokens map[string]string) *v1alpha1.MountRequest {
		t.Helper()
		r, err := w.cluster.MountRequest([]byte(class), p, tokens, "/target")
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if _, sent := attributes(t, request(w.pod, map[string]string{}))[tokensAttribute]; sent {
		t.Error("tokens were sent though none were requested")
	}
	var minted map[string]struct{ Token string }
	if err := json.Unmarshal([]byte(attributes(t, request(w.pod, nil))[tokensAttribute]), &minted); err != nil {
		t.Fatal(err)
	}
	if _, err := w.signIn(t, func() (string, error) { return minted[azuretest.TokenExchangeAudience].Token, nil }); err != nil {
		t.Errorf("minted token: %v", err)
	}
	p := w.pod
	p.VolumeAttributes = map[string]string{tokensAttribute: "a user's own"}
	if got := attributes(t, request(p, map[string]string{}))[tokensAttribute]; got != "a user's own" {
		t.Errorf("tokens of a user: got %s", got)
	}
	p = w.pod
	p.NodePublishSecret = map[string]string{tokensAttribute: w.cluster.Projected(map[string]string{"aud": "x"}), "clientid": "c"}
	r := request(p, nil)
	var secrets map[string]string
	if err := json.Unmarshal([]byte(r.GetSecrets()), &secrets); err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(secrets, p.NodePublishSecret) || attributes(t, r)[tokensAttribute] != secrets[tokensAttribute] {
		t.Errorf("tokens in secrets: got %s and attributes %s", r.GetSecrets(), r.GetAttributes())
	}
}

// What the API server, kubelet or the driver would not let through is refused.
func TestMountRequestRefuses(t *testing.T) {
	w := newWorld(t, azuretest.Options{})
	for _, c := range []struct{ name, old, new, says string }{
		{"other kind", "kind: SecretProviderClass", "kind: Secret", "SecretProviderClass"},
		{"other namespace", "name: contoso", "name: contoso\n  namespace: elsewhere", "elsewhere"},
		{"no name", "  name: contoso", "  labels: {}", "name"},
		{"no provider", "provider: azure", "secretObjects: []", "provider"},
		{"boolean", "keyvaultName: contoso", "usePodIdentity: false", "usePodIdentity"},
		{"list", "keyvaultName: contoso", "objects2: [a]", "objects2"},
		{"no YAML", "kind:", "\tkind:", "parse"},
	} {
		_, err := w.cluster.MountRequest([]byte(strings.Replace(class, c.old, c.new, 1)), w.pod, nil, "/target")
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, want an error about %s", c.name, err, c.says)
		}
	}
	if _, err := w.cluster.MountRequest([]byte(class), azuretest.Pod{Name: "p"}, nil, "/target"); err == nil {
		t.Error("a pod without a namespace was taken")
	}
	p := w.pod
	p.VolumeAttributes = map[string]string{"secretProviderClass": "other"}
	if _, err := w.cluster.MountRequest([]byte(class), p, nil, "/target"); err == nil {
		t.Error("a volume of another class was taken")
	}
}

// Tokens look as the API server makes them.
func TestClusterToken(t *testing.T) {
	now := &clock{now: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)}
	w := newWorld(t, azuretest.Options{Clock: now.Now})
	w.pod.UID, w.pod.ServiceAccountUID = "pod-uid", "account-uid"
	token, err := w.cluster.Token(w.pod, "api://x", 10*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	claims := jwt.MapClaims{}
	parsed, _, err := jwt.NewParser().ParseUnverified(token, claims)
	if err != nil {
		t.Fatal(err)
	}
	if parsed.Header["alg"] != "RS256" || parsed.Header["kid"] == "" || claims["jti"] == "" {
		t.Errorf("header %v, jti %v", parsed.Header, claims["jti"])
	}
	delete(claims, "jti")
	got, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"aud":["api://x"],"exp":1893554045,"iat":1893553445,"iss":"` + issuer + `","kubernetes.io":{"namespace":"shop",` +
		`"pod":{"name":"quick-start","uid":"pod-uid"},"serviceaccount":{"name":"reader","uid":"account-uid"}},` +
		`"nbf":1893553445,"sub":"system:serviceaccount:shop:reader"}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// Two clusters of a fake have different keys, and the same issuer is the same cluster.
func TestClusters(t *testing.T) {
	w := newWorld(t, azuretest.Options{})
	other, err := w.Box.Cluster("https://other.example/")
	if err != nil {
		t.Fatal(err)
	}
	claims, err := w.cluster.Claims(w.pod, azuretest.TokenExchangeAudience, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.signIn(t, func() (string, error) { return other.Sign(claims) })
	checkRefusal(t, refused(t, err), 401, "invalid_client", 50013, "The key was not found")
	if same, err := w.Box.Cluster(issuer); err != nil || same != w.cluster {
		t.Errorf("same issuer: got %p, %v, want %p", same, err, w.cluster)
	}
	for _, bad := range []string{"http://x.example", "https://", "https://x.example/?a=b", "://"} {
		if _, err := w.Box.Cluster(bad); err == nil {
			t.Errorf("issuer %q was taken", bad)
		}
	}
	response, body := send(t, transport(t, w.Box), "GET", issuer+".well-known/openid-configuration", "", nil)
	if response.StatusCode != 200 || !strings.Contains(string(body), `"issuer":"`+issuer+`"`) {
		t.Errorf("discovery: got %s %s", response.Status, body)
	}
}
