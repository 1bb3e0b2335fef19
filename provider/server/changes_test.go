package server_test

import (
	"slices"
	"strings"
	"testing"

	"akv-csi-provider/provider/azuretest"
	"akv-csi-provider/provider/entra"
)

// A rotation that reads as another identity, or from another vault, is in both logs, also if the
// versions are the same: the class was edited.
func TestAnotherReader(t *testing.T) {
	const other = "99999999-aaaa-4bbb-8ccc-dddddddddddd"
	for name, value := range map[string]string{"clientID": other, "keyvaultName": "fabrikam"} {
		w := newWorld(t, setup{})
		w.pod.UID = "1f779534-d47e-48b7-b75e-bf7de85e7cdf"
		w.tenant.Application(other).Federate(issuer, w.pod.Subject(), entra.Audience)
		w.vault.Grant(other, azuretest.SecretsGet)
		restored := w.Vault("fabrikam", w.tenant)
		restored.Grant(clientID, azuretest.SecretsGet)
		for _, v := range []*azuretest.Vault{w.vault, restored} {
			v.SetSecret("my-secret", azuretest.Secret{Value: "Hello!", Version: strings.Repeat("a", 32)})
		}
		var events []any
		for _, pod := range []azuretest.Pod{w.pod, w.pod, w.with(map[string]string{name: value}), w.with(map[string]string{name: value})} {
			req := w.requestFor(t, "one.yaml", pod, nil)
			req.TargetPath = "/var/lib/kubelet/pods/" + w.pod.UID + "/mount"
			_ = w.mounted(t, req)
			if got := w.logLine(t); (got["level"] == "INFO") != strings.Contains(w.audit.String(), `"msg"`) || got["changed"] == true {
				t.Errorf("%s: the log has %v, the audit log %s", name, got, w.audit)
			}
			for _, line := range logLines(t, w.audit) {
				events = append(events, line["msg"], line["clientID"], line["vault"])
			}
		}
		want := []any{"start", clientID, "contoso", "change", other, "contoso"}
		if name == "keyvaultName" {
			want = []any{"start", clientID, "contoso", "change", clientID, "fabrikam"}
		}
		if !slices.Equal(events, want) {
			t.Errorf("%s: the audit log has %v", name, events)
		}
	}
}

// The driver rejects a volume without any version. The logs name only what was got.
func TestNothingThere(t *testing.T) {
	w := newWorld(t, setup{})
	w.vault.Grant(clientID, azuretest.SecretsList)
	objects := `[{objectName: later, objectType: secret, optional: true}, {find: {name: '^x'}, objectType: secret, objectAlias: found, optional: true},
		{objectAlias: d, template: '{{ range find "^x" }}{{ end }}'}, {objectName: h, objectType: secret, keyvaultName: contoso, objectVersionHistory: 2, optional: true}]`
	req := w.requestFor(t, "one.yaml", w.with(map[string]string{"objects": objects}), nil)
	resp, err := w.mount(t, req)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, v := range resp.GetObjectVersion() {
		ids = append(ids, v.GetId()+"@"+v.GetVersion())
	}
	if got := strings.Join(ids, " "); got != "secret/later@ secret/found@ document/d@ secret/h@" {
		t.Errorf("the driver gets %s", got)
	}
	line, audit := w.logLine(t), logLines(t, w.audit)
	if line["versions"] != nil || line["absent"] != 3.0 || len(audit) != 1 || audit[0]["objects"] != nil || audit[0]["reason"] != "ok" {
		t.Errorf("logged %v and %v", line, audit)
	}
	if _, err := w.mount(t, req); err != nil || w.logLine(t)["changed"] != false {
		t.Errorf("a rotation is a change: %v", err)
	}
}
