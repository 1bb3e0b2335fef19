package request_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/request"
)

// A class is read as in a mount, without a pod, and all that is wrong comes at once.
func TestParseClass(t *testing.T) {
	class := map[string]string{"keyvaultName": "Contoso", "clientID": clientID, "tenantID": tenantID, "cloudName": "AzureCloud",
		"objects": "- {objectName: a, objectType: secret, x: y}\n- {objectName: b, objectType: key, filePermission: 0400}\n"}
	m, problems := request.NewParser().ParseClass(class, 0o440)
	if len(problems) > 0 || m.Vault != "contoso" || len(m.Objects) != 2 || m.Objects[0].Mode != 0o440 || m.Objects[1].Mode != 0o400 || len(m.Warnings) != 1 {
		t.Errorf("%v, %+v", problems, m)
	}
	mounted, err := newAttributes(t).with(class).parse(t)
	if err != nil {
		t.Fatal(err)
	}
	of, _ := request.NewParser().ParseClass(class, 0o644)
	mounted.Pod, mounted.Class, mounted.Identity.Tokens = request.Pod{}, "", nil
	if m := *of; mounted.Cloud != m.Cloud || !reflect.DeepEqual(*mounted, m) {
		t.Errorf("a mount reads %+v, a class %+v", mounted, m)
	}

	m, problems = request.NewParser().ParseClass(map[string]string{"tenantID": "a b", "clientID": "", "usePodIdentity": "true", "useVMManagedIdentity": "x",
		"objects": "- {objectName: a, objectType: secret, x: y}\n- {objectName: b_, objectType: keys}\n"}, 0o644)
	var fields []string
	for _, p := range problems {
		fields = append(fields, p.Field)
	}
	if want := []string{"keyvaultName", "useVMManagedIdentity", "tenantID", "usePodIdentity", `objects[1]: objectName`, `objects[1]: objectType`}; !slices.Equal(fields, want) {
		t.Errorf("problems with %q, want %q", fields, want)
	}
	if len(m.Warnings) != 1 || m.Warnings[0].Line != 1 || problems[4].Line != 2 || problems[4].Column != 16 {
		t.Errorf("%+v, %+v", m.Warnings, problems)
	}
	if _, problems := request.NewParser().ParseClass(map[string]string{"keyvaultName": ""}, 0); !slices.Equal(causes(problems), []string{"keyvaultName empty", "objects missing"}) {
		t.Errorf("%+v", problems)
	}
}

func causes(problems []fault.Problem) []string {
	var all []string
	for _, p := range problems {
		all = append(all, p.Field+" "+p.Cause)
	}
	return all
}

// The largest class that can be valid is parsed; short entries are refused before.
func TestBreaks(t *testing.T) {
	var b strings.Builder
	b.WriteString("array:\n")
	for i := range 4096 {
		fmt.Fprintf(&b, "  - |\n\n    # of team %d, since 2021, for now\n    objectName: n%d\n    objectType: secret\n    filePermission: 0400\n\n", i, i)
	}
	m, problems := new(request.Parser).ParseClass(map[string]string{"keyvaultName": "contoso", "objects": b.String()}, 0o644)
	if len(problems) > 0 || len(m.Objects) != 4096 {
		t.Errorf("%d objects, %.500v", len(m.Objects), problems)
	}
	indented := strings.Repeat("    - objectName: a\n      objectType: secret\n      objectAlias: "+strings.Repeat("x", 90)+"\n", 3000)
	m, problems = new(request.Parser).ParseClass(map[string]string{"keyvaultName": "contoso", "objects": indented}, 0o644)
	if len(problems) > 0 || len(m.Objects) != 3000 {
		t.Errorf("a long list that is indented: %d objects, %.500v", len(m.Objects), problems)
	}
	for _, short := range []string{"- #\n", "-\n", "-\r", "- {}\r\n"} {
		_, problems := new(request.Parser).ParseClass(map[string]string{"keyvaultName": "contoso", "objects": strings.Repeat(short, 50_000)}, 0o644)
		if len(problems) != 1 || !strings.Contains(problems[0].Cause, "lines and commas") {
			t.Errorf("%q: %.300v", short, problems)
		}
	}
	_, problems = new(request.Parser).ParseClass(map[string]string{"keyvaultName": "contoso", "objects": "[" + strings.Repeat("~,", 50_000) + "]"}, 0o644)
	if len(problems) != 1 || !strings.Contains(problems[0].Cause, "lines and commas") {
		t.Errorf("%.300v", problems)
	}
}
