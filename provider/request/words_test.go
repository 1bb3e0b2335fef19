package request_test

import (
	"testing"

	"akv-csi-provider/provider/request"
)

func TestPlaceholder(t *testing.T) {
	for line, want := range map[string][2]string{
		"é: {{ .Values.x }} # y": {"{{ .Values.x }}", helm}, "${X}": {"${X}", replaced}, "${{ x }}": {"${{ x }}", replaced},
		"a: <no value>": {"<no value>", unset}, "a: b": {}, "{a: b}": {}, "": {},
	} {
		at, what := request.Placeholder(line)
		found := ""
		if at != nil {
			found = line[at[0]:at[1]]
		}
		if found != want[0] || what != want[1] {
			t.Errorf("%q: %q, %q", line, found, what)
		}
	}
}

func TestNearest(t *testing.T) {
	for name, want := range map[string]string{"keyVaultName": "keyvaultName", "object": "objects", "x": "", "": ""} {
		if got := request.Nearest(name, "keyvaultName", "objects"); got != want {
			t.Errorf("%q: %q", name, got)
		}
	}
	if got := request.Nearest("web"); got != "" {
		t.Errorf("of no names: %q", got)
	}
}
