package server_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"akv-csi-provider/provider/azuretest"
	"akv-csi-provider/provider/keyvault"
)

// logLines are the lines of a JSON log so far, without times and durations, and empty it.
func logLines(t *testing.T, b *buffer) []map[string]any {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []map[string]any
	for line := range strings.Lines(b.b.String()) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if msg := fields["msg"]; msg == "start" || msg == "change" || msg == "failure" {
			if d, ok := fields["durationSeconds"].(float64); !ok || d <= 0 || d > 60 {
				t.Errorf("durationSeconds %v", fields["durationSeconds"])
			}
		}
		delete(fields, "time")
		delete(fields, "durationSeconds")
		all = append(all, fields)
	}
	b.b.Reset()
	return all
}

// The audit log says who got what on each start and each change, and what was refused for which
// reason; it has no line for a rotation that changes nothing, nor for a failure that repeats.
func TestAudit(t *testing.T) {
	w := newWorld(t, setup{reads: func(c *keyvault.Config) { c.CacheTTL = 0 }})
	w.pod.UID = "6f2f0a1e-0000-4000-8000-000000000001"
	first := w.vault.SetSecret("my-secret", azuretest.Secret{Value: "Hello!"})
	req := w.request(t, "one.yaml")
	want := func(event, object, reason string, more map[string]any) map[string]any {
		all := map[string]any{"level": "INFO", "msg": event, "node": "node-1", "namespace": "shop", "pod": "web-0", "podUID": w.pod.UID, "serviceAccount": "reader",
			"class": "one", "vault": "contoso", "identity": "workload-identity", "clientID": clientID, "tenantID": tenantID,
			"objects": object, "reason": reason, "read": 1.0, "shared": 0.0, "cached": 0.0, "stale": 0.0}
		maps.Copy(all, more)
		return all
	}
	one := func(step string, want map[string]any) {
		t.Helper()
		all := logLines(t, w.audit)
		if len(all) != 1 {
			t.Fatalf("%s: %d lines: %v", step, len(all), all)
		}
		got := all[0]
		if want["msg"] == "failure" { // see TestFailuresHaveRequestIDs
			delete(got, "requestIDs")
		}
		for _, list := range []string{"objects", "failedObjects"} {
			if _, there := got[list]; there {
				got[list] = strings.Trim(fmt.Sprint(got[list]), "[]")
			}
		}
		if !maps.Equal(got, want) {
			t.Errorf("%s:\ngot  %v\nwant %v", step, got, want)
		}
	}
	_ = w.mounted(t, req)
	one("start", want("start", "secret/my-secret@"+first, "ok", nil))
	_ = w.mounted(t, req)
	if all := logLines(t, w.audit); len(all) != 0 {
		t.Errorf("a rotation without a change: %v", all)
	}
	second := w.vault.SetSecret("my-secret", azuretest.Secret{Value: "Hello again!", Created: time.Now().Add(time.Second)})
	_ = w.mounted(t, req)
	one("change", want("change", "secret/my-secret@"+second, "ok", nil))
	w.vault.Revoke(clientID)
	for range 3 {
		if _, err := w.mount(t, req); err == nil {
			t.Fatal("mounted")
		}
	}
	refused := want("failure", "secret/my-secret", "AccessDenied", map[string]any{"failedObjects": "secret/my-secret", "rotation": true, "read": 0.0})
	one("failures", refused)
	w.vault.Grant(clientID, azuretest.SecretsGet)
	_ = w.mounted(t, req)
	w.vault.Revoke(clientID)
	_, _ = w.mount(t, req)
	one("another failure", refused)
	// The author of the class experiments with names.
	for _, name := range []string{"other", "other", "third"} {
		req := w.requestFor(t, "one.yaml", w.with(map[string]string{"objects": "[{objectName: " + name + ", objectType: secret}]"}), nil)
		req.TargetPath = "/var/lib/kubelet/pods/" + w.pod.UID + "/mount"
		_, _ = w.mount(t, req)
	}
	all := logLines(t, w.audit)
	if len(all) != 2 || fmt.Sprint(all[0]["objects"], all[1]["objects"]) != "[secret/other] [secret/third]" {
		t.Errorf("other objects: %v", all)
	}
}

// Nor can the author experiment with names in templates, of passwords, or with tags and vaults.
func TestAuditHasAllNames(t *testing.T) {
	for _, c := range []struct{ objects, first, second, line string }{
		{`[{objectAlias: f, template: '{{ secret "NAME" }}'}]`, "one", "two", `document "f" secret/NAME`},
		{`[{objectAlias: f, template: '{{ certificate "NAME" }}', keyvaultName: fabrikam}]`, "one", "two", `document "f" fabrikam/cert/NAME`},
		{`[{objectAlias: f, template: '{{ range find "NAME" }}{{ end }}'}]`, "one", "two", `document "f" find/NAME`},
		{`[{objectName: tls, objectType: secret, files: [{part: jks, objectAlias: f, passwordFrom: NAME}, {part: jks, objectAlias: g, passwordFrom: NAME}]}]`, "one", "two", "secret/tls secret/NAME"},
		{`[{find: {tags: {team: NAME}}, objectType: secret}]`, "one", "two", "find by tags"},
		{`[{objectName: gone, objectType: secret, failoverKeyvaultName: NAME}]`, "fabrikam", "tailspin", "secret/gone"},
	} {
		w := newWorld(t, setup{})
		w.pod.UID = "6f2f0a1e-0000-4000-8000-000000000002"
		for i, name := range []string{c.first, c.second, c.second} {
			objects := strings.ReplaceAll(c.objects, "NAME", name)
			w.vault.Revoke(clientID)
			req := w.requestFor(t, "one.yaml", w.with(map[string]string{"objects": objects}), nil)
			req.TargetPath = "/var/lib/kubelet/pods/" + w.pod.UID + "/mount"
			_, err := w.mount(t, req)
			all := logLines(t, w.audit)
			if want := 1 - i/2; err == nil || len(all) != want {
				t.Fatalf("%s: error %v, lines %v, want %d", objects, err, all, want)
			}
			if want := "[" + strings.ReplaceAll(c.line, "NAME", name) + "]"; i < 2 && fmt.Sprint(all[0]["objects"]) != want {
				t.Errorf("%s: objects %v, want %s", objects, all[0]["objects"], want)
			}
		}
	}
}

// A failure names the objects without which the mount fails, and no other, in both logs. What fails
// before the vaults are asked has none.
func TestFailedObjects(t *testing.T) {
	version := strings.Repeat("a", 32)
	for _, c := range []struct{ objects, want string }{
		{`[{objectName: my-secret, objectType: secret}, {objectName: gone, objectType: secret}]`, "secret/gone"},
		{`[{objectName: gone, objectType: secret, objectVersion: ` + version + `}, {objectName: k, objectType: key, keyvaultName: fabrikam}]`, "secret/gone@" + version + " fabrikam/key/k"},
		{`[{objectName: my-secret, objectType: secret}, {objectName: web, objectType: cert, objectVersionHistory: 3}]`, "cert/web"},
		{`[{objectName: my-secret, objectType: secret, objectEncoding: hex}, {objectName: gone, objectType: secret, optional: true}]`, "secret/my-secret"},
		{`[{objectAlias: f, template: '{{ secret "my-secret" }}{{ secret "gone" }}'}]`, "secret/gone"},
		{`[{objectAlias: f, template: '{{ secret "my-secret" | b64dec }}'}, {objectName: my-secret, objectType: secret}]`, `document "f"`},
		{`[{find: {name: none}, objectType: secret}, {find: {name: my.*}, objectType: secret, objectAlias: m}]`, `find "none"`},
		{`[{find: {name: my}, objectType: key}, {find: {name: m}, objectType: key}, {objectAlias: f, template: '{{ range find "my" }}{{ .Value }}{{ end }}{{ range find "m" }}{{ .Value }}{{ end }}', keyvaultName: fabrikam}]`,
			`find "my" find "m" document "f"`},
		{`[{objectName: my_secret, objectType: secret}]`, ""},
	} {
		w := newWorld(t, setup{})
		w.vault.Grant(clientID, azuretest.SecretsGet, azuretest.SecretsList)
		_, err := w.mount(t, w.requestFor(t, "one.yaml", w.with(map[string]string{"objects": c.objects}), nil))
		if err == nil {
			t.Fatalf("%s: mounted", c.objects)
		}
		for log, line := range map[string]map[string]any{"audit": logLines(t, w.audit)[0], "log": w.lines(t)[0]} {
			got := ""
			if line["failedObjects"] != nil {
				got = strings.Trim(fmt.Sprint(line["failedObjects"]), "[]")
			}
			if got != c.want {
				t.Errorf("%s: the %s has %q, want %q (%v)", c.objects, log, got, c.want, err)
			}
		}
	}
}

// Other objects that fail, for the same reason, are another line of the audit log.
func TestAuditOfOtherFailedObjects(t *testing.T) {
	w := newWorld(t, setup{})
	w.pod.UID = "6f2f0a1e-0000-4000-8000-000000000003"
	req := w.requestFor(t, "one.yaml", w.with(map[string]string{"objects": "[{objectName: one, objectType: secret}, {objectName: two, objectType: secret}]"}), nil)
	for i, missing := range []string{"secret/one secret/two", "", "secret/two", ""} {
		if i == 2 {
			w.vault.SetSecret("one", azuretest.Secret{Value: "x"})
		}
		_, err := w.mount(t, req)
		all := logLines(t, w.audit)
		if err == nil || len(all) != 1-i%2 {
			t.Fatalf("mount %d: %v, lines %v", i, err, all)
		}
		if i%2 == 0 && fmt.Sprint(all[0]["failedObjects"]) != "["+missing+"]" {
			t.Errorf("mount %d: %v, want %s", i, all[0]["failedObjects"], missing)
		}
	}
}

// What a line has of a class is bounded.
func TestAuditIsBounded(t *testing.T) {
	w := newWorld(t, setup{})
	var objects strings.Builder
	for i := range 300 {
		name := fmt.Sprintf("s%03d", i)
		w.vault.SetSecret(name, azuretest.Secret{Value: "x"})
		fmt.Fprintf(&objects, "- {objectName: %s, objectType: secret}\n", name)
	}
	_ = w.mounted(t, w.requestFor(t, "one.yaml", w.with(map[string]string{"objects": objects.String()}), nil))
	started, mounted := logLines(t, w.audit), w.lines(t)
	missing := strings.ReplaceAll(objects.String(), "objectName: s", "objectName: gone")
	_, err := w.mount(t, w.requestFor(t, "one.yaml", w.with(map[string]string{"objects": "- {objectName: s000, objectType: secret}\n" + missing}), nil))
	for _, line := range []map[string]any{logLines(t, w.audit)[0], w.lines(t)[0]} {
		if n := len(line["failedObjects"].([]any)); err == nil || n != 256 || line["failedObjectsOmitted"] != 44.0 {
			t.Errorf("%v: %d failed objects, %v omitted", err, n, line["failedObjectsOmitted"])
		}
	}
	for _, all := range [][]map[string]any{started, mounted} {
		list, omitted := "objects", all[0]["objectsOmitted"]
		if all[0]["msg"] == "mounted" {
			list, omitted = "versions", all[0]["versionsOmitted"]
		}
		if n := len(all[0][list].([]any)); n != 256 || omitted != 44.0 {
			t.Errorf("%d objects, %v omitted", n, omitted)
		}
	}
}

// Mistakes in a class are one warning for each pod that starts, and count with each mount.
func TestWarningsOncePerStart(t *testing.T) {
	w := newWorld(t, setup{})
	pod := w.with(map[string]string{"objects": "[{objectName: my-secret, objectType: secret, objectFromat: x}]"})
	for _, name := range []string{"web-0", "web-1"} {
		pod.Name = name
		for range 3 {
			_ = w.mounted(t, w.requestFor(t, "one.yaml", pod, nil))
		}
	}
	if n := strings.Count(w.log.String(), "class accepted with warnings"); n != 2 {
		t.Errorf("%d lines", n)
	}
	if _, warnings := w.seen.observed(); strings.Count(warnings, "unknown_field") != 6 {
		t.Errorf("counted %s", warnings)
	}
}

// A rotation that changes nothing is for debugging, also where a value has a warning that is known.
func TestUnchangedRotationsAreDebug(t *testing.T) {
	w := newWorld(t, setup{reads: func(c *keyvault.Config) { c.CacheTTL = 0 }})
	req := w.request(t, "one.yaml")
	past := time.Now().Add(-time.Hour)
	var levels []string
	mount := func() {
		_ = w.mounted(t, req)
		levels = append(levels, w.logLine(t)["level"].(string))
	}
	mount()
	mount()
	version := w.vault.SetSecret("my-secret", azuretest.Secret{Value: "x", Version: strings.Repeat("a", 32), Created: time.Now().Add(time.Second)})
	mount()
	w.vault.SetSecret("my-secret", azuretest.Secret{Value: "x", Version: version, Created: time.Now().Add(time.Second), Expires: &past})
	mount()
	mount()
	if got := strings.Join(levels, " "); got != "INFO DEBUG INFO WARN DEBUG" {
		t.Errorf("levels %s", got)
	}
}

// A failure names Azure's IDs of the response in fields of both logs, and not in its message. The
// audit log has nothing else of the error.
func TestFailuresHaveRequestIDs(t *testing.T) {
	w := newWorld(t, setup{})
	check := func(pod string, aadsts any, names ...string) {
		t.Helper()
		p := w.pod
		p.Name = pod
		_, err := w.mount(t, w.requestFor(t, "one.yaml", p, nil))
		got, audited := w.logLine(t), logLines(t, w.audit)
		if err == nil || len(audited) != 1 {
			t.Fatalf("%s: %v, audited %v", pod, err, audited)
		}
		for _, name := range names {
			ids, _ := got[name].([]any)
			if len(ids) != 1 || len(ids[0].(string)) != 36 || strings.Contains(got["error"].(string), ids[0].(string)) {
				t.Errorf("%s: %s of %v", pod, name, got)
			}
		}
		for _, name := range []string{"aadsts", "requestIDs", "traceIDs", "correlationIDs"} {
			if fmt.Sprint(audited[0][name]) != fmt.Sprint(got[name]) {
				t.Errorf("%s: the audit log has %s %v, the log %v", pod, name, audited[0][name], got[name])
			}
		}
		if got["aadsts"] != aadsts || audited[0]["error"] != nil || audited[0]["code"] != nil {
			t.Errorf("%s: aadsts %v, audited %v", pod, got["aadsts"], audited[0])
		}
	}
	w.vault.Revoke(clientID)
	check("web-0", nil, "requestIDs")
	w.app.Unfederate()
	check("web-1", 70025.0, "requestIDs", "traceIDs", "correlationIDs")
}

// For debugging, each request is a line that says where it went and how it ended, and each object
// and token one that says where it came from, all with the number of their mount.
func TestRequestsForDebugging(t *testing.T) {
	w := newWorld(t, setup{})
	req := w.request(t, "one.yaml")
	_ = w.mounted(t, req)
	all := logLines(t, w.log)
	var requests, answers []string
	for _, line := range all {
		switch line["msg"] {
		case "request":
			requests = append(requests, fmt.Sprint(line["method"], " ", line["host"], " ", line["status"]))
			if line["mount"] != all[len(all)-1]["mount"] || line["namespace"] != "shop" || line["requestID"] == nil {
				t.Errorf("%v of %v", line, all[len(all)-1])
			}
		case "object":
			answers = append(answers, fmt.Sprint(line["host"], " ", line["object"], " ", line["source"]))
		case "token":
			answers = append(answers, fmt.Sprint("token ", line["cached"]))
		}
	}
	const vault = "contoso.vault.azure.net"
	if got := strings.Join(requests, ", "); !strings.Contains(got, "POST login.microsoftonline.com 200") || !strings.Contains(got, "GET "+vault+" 200") {
		t.Errorf("requests: %s", got)
	}
	if got := strings.Join(answers, ", "); got != "token false, "+vault+` secret "my-secret" read` {
		t.Errorf("answers: %s", got)
	}
	other := w.pod
	other.Name = "web-1"
	_ = w.mounted(t, w.requestFor(t, "one.yaml", other, nil))
	_ = logLines(t, w.log)
	_ = w.mounted(t, req)
	if text := w.log.String(); !strings.Contains(text, `"msg":"token"`) || !strings.Contains(text, `"source":"cached"`) || strings.Contains(text, `"msg":"request"`) {
		t.Errorf("a rotation: %s", text)
	}
}
