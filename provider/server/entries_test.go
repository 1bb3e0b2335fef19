package server_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"akv-csi-provider/provider"
	"akv-csi-provider/provider/azuretest"
	"akv-csi-provider/provider/document"
	"akv-csi-provider/provider/metrics"
	"akv-csi-provider/provider/request"
	"akv-csi-provider/provider/server"
	"akv-csi-provider/provider/tree"

	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

// withObjects mounts these objects in place of the class's.
type withObjects struct {
	server.Mounter
	objects []request.Object
}

func (m withObjects) Mount(ctx context.Context, req *request.Mount, lastEnd time.Time) (*provider.Volume, error) {
	changed := *req
	changed.Objects = m.objects
	return m.Mounter.Mount(ctx, &changed, lastEnd)
}

// of is a setup whose classes have these objects.
func of(objects ...request.Object) setup {
	return setup{config: func(cfg *server.Config) { cfg.Mounter = withObjects{cfg.Mounter, objects} }}
}

func secretObject(name string) request.Object {
	return request.Object{Type: request.TypeSecret, Name: name, History: 1, Path: name, Format: request.FormatPEM, Encoding: request.EncodingUTF8, Mode: 0o644}
}

func search(pattern, folder string) request.Object {
	o := secretObject("")
	o.Path, o.Find = folder, &request.Find{Name: regexp.MustCompile(pattern), Max: 100}
	return o
}

func template(t *testing.T, path, text string) request.Object {
	t.Helper()
	parsed, errs := document.Parse(text)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	return request.Object{History: 1, Path: path, Mode: 0o644, Document: parsed}
}

// jsonPieces are ten parts of one secret.
func jsonPieces(t *testing.T, name string) request.Object {
	t.Helper()
	o := secretObject(name)
	o.Path, o.Pieces = "", &request.Pieces{}
	for i := range 10 {
		query, err := tree.ParsePath(fmt.Sprintf("k%d", i))
		if err != nil {
			t.Fatal(err)
		}
		o.Pieces.Paths = append(o.Pieces.Paths, request.Piece{Query: query, Path: fmt.Sprintf("k%d", i), Mode: 0o644})
	}
	return o
}

// wantCounts checks the requests to Azure since the counts were reset.
func (w *world) wantCounts(t *testing.T, want map[azuretest.Kind]int) {
	t.Helper()
	counts := w.Counts()
	delete(counts, azuretest.Issuer) // Entra's
	for kind := range want {
		if counts[kind] != want[kind] {
			t.Errorf("requests %v, want %v", counts, want)
			break
		}
	}
	if len(counts) != len(want) {
		t.Errorf("requests %v, want %v", counts, want)
	}
	w.ResetCounts()
}

// A search of 100 among 1,000 secrets costs the pages of the list and 100 reads, and a rotation of
// 50 pods costs that once.
func TestCostOfASearch(t *testing.T) {
	w := newWorld(t, of(search("^pay-(.*)$", "pay")))
	w.vault.Grant(clientID, azuretest.SecretsList)
	for i := range 999 { // and my-secret
		name := fmt.Sprintf("s-%03d", i)
		if i < 100 {
			name = fmt.Sprintf("pay-%02d", i)
		}
		w.vault.SetSecret(name, azuretest.Secret{Value: name})
	}
	resp, err := w.mount(t, w.request(t, "one.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if got := files(resp); len(got) != 100 || got["pay/07"] != "pay-07" || len(resp.GetObjectVersion()) != 100 || resp.GetObjectVersion()[7].GetId() != "secret/pay-07" {
		t.Errorf("got %d files and %d versions", len(got), len(resp.GetObjectVersion()))
	}
	w.wantCounts(t, map[azuretest.Kind]int{azuretest.Token: 1, azuretest.List: 40, azuretest.GetSecret: 100})
	var pods []*v1alpha1.MountRequest
	for i := range 50 {
		pods = append(pods, w.requestFor(t, "one.yaml", podOf("shop", fmt.Sprint("web-", i), "reader"), nil))
	}
	round := func() {
		var all sync.WaitGroup
		for _, req := range pods {
			all.Go(func() {
				if _, err := w.mount(t, req); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	}
	round()
	w.ResetCounts()
	round() // the answers of the first round may serve it
	if lists, reads := w.Count(azuretest.List), w.Count(azuretest.GetSecret); lists > 40 || reads > 200 {
		t.Errorf("%d pages of lists and %d reads", lists, reads)
	}
}

// Ten pieces of a secret cost one read, a template of ten secrets ten, and three vaults one sign-in.
func TestCostOfEntries(t *testing.T) {
	var text strings.Builder
	for i := range 10 {
		fmt.Fprintf(&text, "{{ secret \"t-%d\" }}\n", i)
	}
	b, c := secretObject("b"), secretObject("c")
	b.Vault, c.Vault = "fabrikam", "northwind"
	for name, test := range map[string]struct {
		objects []request.Object
		reads   int
		path    string
		want    string
	}{
		"pieces":       {[]request.Object{jsonPieces(t, "db")}, 1, "k9", "value 9"},
		"a template":   {[]request.Object{template(t, "app.ini", text.String())}, 10, "app.ini", "0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n"},
		"three vaults": {[]request.Object{secretObject("my-secret"), b, c}, 3, "c", "C"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, of(test.objects...))
			var members []string
			for i := range 10 {
				w.vault.SetSecret(fmt.Sprint("t-", i), azuretest.Secret{Value: fmt.Sprint(i)})
				members = append(members, fmt.Sprintf(`"k%d":"value %d"`, i, i))
			}
			w.vault.SetSecret("db", azuretest.Secret{Value: "{" + strings.Join(members, ",") + "}"})
			for vault, secret := range map[string]string{"fabrikam": "b", "northwind": "c"} {
				v := w.Vault(vault, w.tenant)
				v.Grant(clientID, azuretest.SecretsGet)
				v.SetSecret(secret, azuretest.Secret{Value: strings.ToUpper(secret)})
			}
			w.SetLatency(azuretest.GetSecret, 300*time.Millisecond)
			start := time.Now()
			resp, err := w.mount(t, w.request(t, "one.yaml"))
			if err != nil || files(resp)[test.path] != test.want {
				t.Fatalf("got %q, %v", files(resp), err)
			}
			if took := time.Since(start); took > 3*time.Second { // 10 reads one after the other
				t.Errorf("took %s", took)
			}
			w.wantCounts(t, map[azuretest.Kind]int{azuretest.Token: 1, azuretest.GetSecret: test.reads})
		})
	}
}

// A pod starts within 5 s although the first vault is silent, by a search too.
func TestFailoverVault(t *testing.T) {
	object, found := secretObject("my-secret"), search("^my-(.*)$", "d")
	object.Failover, found.Failover = "contoso-dr", "contoso-dr"
	observed := of(object, found)
	observed.metrics = metrics.New("1.2.3")
	w := newWorld(t, observed)
	dr := w.Vault("contoso-dr", w.tenant)
	dr.Grant(clientID, azuretest.SecretsGet, azuretest.SecretsList)
	dr.SetSecret("my-secret", azuretest.Secret{Value: "from afar"})
	w.vault.SetFault(azuretest.Fault{Stall: true})
	start := time.Now()
	resp, err := w.mount(t, w.request(t, "one.yaml"))
	if err != nil || files(resp)["my-secret"] != "from afar" || files(resp)["d/secret"] != "from afar" {
		t.Fatalf("got %q, %v", files(resp), err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %s", took)
	}
	for _, part := range []string{`"level":"WARN"`, `"failover":3`, "since contoso.vault.azure.net is unavailable"} {
		if !strings.Contains(w.log.String(), part) {
			t.Errorf("the log lacks %s:\n%s", part, w.log.String())
		}
	}
	wantAnswers(t, observed.metrics, "failover", 3)
}

// wantAnswers checks the count of answers of a source.
func wantAnswers(t *testing.T, m *metrics.Metrics, source string, want int) {
	t.Helper()
	exposition := httptest.NewRecorder()
	m.Handler().ServeHTTP(exposition, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if line := fmt.Sprintf("akv_csi_object_reads_total{source=%q} %d\n", source, want); !strings.Contains(exposition.Body.String(), line) {
		t.Errorf("the metrics lack %s", line)
	}
}

// What is optional and absent is left out, with a line in the log, and comes with a later rotation.
func TestOptionalObject(t *testing.T) {
	object := secretObject("later")
	object.Optional = true
	observed := of(object)
	observed.metrics = metrics.New("1.2.3")
	w := newWorld(t, observed)
	req := w.request(t, "one.yaml")
	resp, err := w.mount(t, req)
	if err != nil || len(resp.GetFiles()) != 0 || len(resp.GetObjectVersion()) != 1 || resp.GetObjectVersion()[0].GetVersion() != "" {
		t.Fatalf("got %v, %v", resp, err)
	}
	w.wantCounts(t, map[azuretest.Kind]int{azuretest.Token: 1, azuretest.GetSecret: 1})
	if log := w.log.String(); !strings.Contains(log, `"level":"INFO"`) || !strings.Contains(log, `"absent":1,"firstAbsent":["secret \"later\""]`) {
		t.Errorf("log: %s", log)
	}
	wantAnswers(t, observed.metrics, "absent", 1)
	w.vault.SetSecret("later", azuretest.Secret{Value: "here"})
	if resp, err = w.mount(t, req); err != nil || files(resp)["later"] != "here" || !strings.Contains(w.log.String(), `"changed":true`) {
		t.Errorf("got %v, %v", resp, err)
	}
}
