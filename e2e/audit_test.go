package e2e_test

import (
	"encoding/json"
	"maps"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/itchyny/gojq"
)

// The query for the audit log finds the lines of those who got an object, among them the line that
// the document shows, and no other.
func TestAuditQuery(t *testing.T) {
	document := read(t, "../deploy/METRICS.md")
	program := regexp.MustCompile(`(?s)jq -rR --arg vault "\$AUDITED_VAULT" --arg object "\$AUDITED_OBJECT" '\n(.*?)' audit.log`).FindStringSubmatch(document)
	shown := regexp.MustCompile("(?s)```json\n(\\{\"time\".*?\\})\n```").FindStringSubmatch(document)
	if program == nil || shown == nil {
		t.Fatal("the document has no query, or no line")
	}
	parsed, err := gojq.Parse(program[1])
	if err != nil {
		t.Fatal(err)
	}
	query, err := gojq.Compile(parsed, gojq.WithVariables([]string{"$vault", "$object"}))
	if err != nil {
		t.Fatal(err)
	}
	// line is the line of the document with other fields.
	line := func(pod string, fields map[string]any) string {
		var all map[string]any
		if err := json.Unmarshal([]byte(shown[1]), &all); err != nil {
			t.Fatal(err)
		}
		maps.Copy(all, fields)
		all["pod"] = pod
		text, err := json.Marshal(all)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	objects := func(all ...string) map[string]any { return map[string]any{"objects": all} }
	lines := []string{
		shown[1],
		line("changed", map[string]any{"event": "change", "objects": []string{"key/k@1", "secret/My-Secret@2"}, "vault": "KV-quick-start"}),
		line("with-own-vault", map[string]any{"vault": "kv-other", "objects": []string{"kv-quick-start/secret/my-secret@3"}}),
		line("with-history", objects("secret/my-secret/0@4", "secret/my-secret/1@3")),
		line("with-many", map[string]any{"objects": []string{"secret/other@1"}, "objectsOmitted": 3}),
		// These got none.
		`level=INFO msg=mounted pod=in-the-other-log vault=kv-quick-start versions=[secret/my-secret@1]`,
		line("refused", map[string]any{"event": "failure"}),
		line("of-other-vault", map[string]any{"vault": "kv-other"}),
		line("of-other-vaults-object", objects("kv-other/secret/my-secret@1")),
		line("of-other-name", objects("secret/my-secret-2@1", "secret/secret/my-secret@1")),
		line("of-other-type", objects("key/my-secret@1")),
		line("without-optional", objects("secret/my-secret")),
	}
	var got []string
	for _, l := range lines {
		for iter := query.Run(l, "kv-quick-start", "secret/my-secret"); ; {
			v, ok := iter.Next()
			if !ok {
				break
			}
			if err, failed := v.(error); failed {
				t.Fatalf("%v: %s", err, l)
			}
			columns := strings.Split(v.(string), "\t")
			got = append(got, columns[4]+" "+columns[len(columns)-1])
		}
	}
	want := []string{"quick-start kv-quick-start/secret/my-secret@1ed970af7f641805506d9418d3cf81df", "changed KV-quick-start/secret/My-Secret@2",
		"with-own-vault kv-quick-start/secret/my-secret@3", "with-history kv-quick-start/secret/my-secret/0@4 kv-quick-start/secret/my-secret/1@3", "with-many "}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q,\nwant %q", got, want)
	}
}
