package server_test

import (
	"strings"
	"testing"

	"akv-csi-provider/provider/azuretest"
)

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
