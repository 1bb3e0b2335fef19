package server_test

import (
	"encoding/json"
	"flag"
	"slices"
	"strings"
	"sync"
	"testing"

	"akv-csi-provider/provider/azuretest"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/server"

	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

// canaryRow is a mount whose credentials and values are marks.
type canaryRow struct {
	failure
	prepare func(*testing.T, *canaries, *world)
	request func(*canaries, *v1alpha1.MountRequest)
	objects string
}

// run mounts, and searches everything that the plugin emitted for the marks of the row.
func (row canaryRow) run(t *testing.T) (reasons []string, marks int) {
	c := newCanaries(t)
	w := newWorld(t, c.setup(row.setup))
	req := c.prepareRequest(t, w, row)
	var parameters map[string]string
	if json.Unmarshal([]byte(req.GetAttributes()), &parameters) == nil && parameters[tokensAttribute] != "" {
		c.add(parameters[tokensAttribute])
	}
	reasons = c.mount(t, w, req)
	if row.wantReason != "" && !slices.Contains(reasons, row.wantReason) {
		t.Errorf("got the reasons %q, want %s: %s", reasons, row.wantReason, c.status.String())
	}
	outputs, all := c.outputs(w), c.all()
	for where, text := range outputs {
		for _, found := range azuretest.FindMarks([]byte(text), all) {
			t.Errorf("%s: contains %s:\n%s", where, found, text)
		}
		proof := map[string]string{"status": "content-type", "log as JSON": `{"time"`, "log as text": "level=", "audit": `"msg":"`, "metrics": "akv_csi_mount_duration_seconds_count{", "spans": "v1alpha1.CSIDriverProvider/Mount"}
		if !strings.Contains(text, proof[where]) {
			t.Errorf("%s: lacks %q, so that its search proves nothing:\n%s", where, proof[where], text)
		}
	}
	return reasons, len(all)
}

// canaryRows are the tables of failures and of the reference with marks in them, and further rows.
func canaryRows(t *testing.T) []canaryRow {
	t.Helper()
	var rows []canaryRow
	for _, f := range failures() {
		rows = append(rows, canaryRow{failure: f})
	}
	stories := slices.Concat(parameterStories(), fieldStories(), warningStories(), contentStories(), identityStories(), cloudStories(), boundStories(), differenceStories())
	for _, s := range stories {
		row := canaryRow{objects: s.objects, failure: failure{name: "contract/" + s.row + ": " + s.name, setup: s.setup, pod: s.pod, secret: s.secret, tokens: s.tokens,
			bound: s.pod["useAzureTokenProxy"] == "true"}}
		row.prepare = func(t *testing.T, _ *canaries, w *world) {
			if s.prepare != nil {
				s.prepare(t, w)
			}
		}
		rows = append(rows, row)
	}
	return slices.Concat(rows, canaryPanics(), canaryEchoes(), canaryCredentials(), canaryContents(), canaryEntries(t))
}

// TestCanary mounts in every way that the tests know, with marks in place of tokens, client secrets,
// private keys, values and settings that are not read. No mark is found in what the plugin emits.
// A reason without a row fails the test.
func TestCanary(t *testing.T) {
	var mu sync.Mutex // guards what follows
	reached := map[string]bool{}
	rows, marks := 0, 0
	t.Run("rows", func(t *testing.T) {
		for _, row := range canaryRows(t) {
			t.Run(row.name, func(t *testing.T) {
				t.Parallel()
				reasons, n := row.run(t)
				mu.Lock()
				defer mu.Unlock()
				rows, marks = rows+1, marks+n
				for _, reason := range reasons {
					reached[reason] = true
				}
			})
		}
	})
	t.Logf("%d rows with %d marks", rows, marks)
	if f := flag.Lookup("test.run"); strings.Contains(f.Value.String(), "/") {
		return // not all rows
	}
	for _, r := range fault.Reasons {
		if !reached[string(r.Reason)] {
			t.Errorf("no row fails for the reason %s", r.Reason)
		}
	}
}

// A mark that is emitted is found: the search itself works on what this test collects.
func TestCanaryFinds(t *testing.T) {
	c := newCanaries(t)
	secret := c.mark()
	w := newWorld(t, c.setup(setup{config: func(cfg *server.Config) {
		cfg.Mounter = failing{&fault.Error{Reason: fault.Internal, Cause: "refused " + secret, Fix: "none"}}
	}}))
	c.mount(t, w, w.request(t, "one.yaml"))
	for where, text := range c.outputs(w) {
		if found := azuretest.FindMarks([]byte(text), []string{secret}); (len(found) > 0) != (where == "status" || strings.HasPrefix(where, "log")) {
			t.Errorf("%s: found %q in %s", where, found, text)
		}
	}
}
