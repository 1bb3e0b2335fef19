package chart_test

import (
	"encoding/json"
	"strings"
	"testing"

	yamlv3 "go.yaml.in/yaml/v3"
)

type schema struct {
	Type       any
	Properties map[string]schema
	Additional any `json:"additionalProperties"`
}

// Every value has a comment and a place in the schema, which refuses all others.
func TestValues(t *testing.T) {
	var values yamlv3.Node
	if err := yamlv3.Unmarshal([]byte(read(t, folder+"/values.yaml")), &values); err != nil {
		t.Fatal(err)
	}
	var root schema
	if err := json.Unmarshal([]byte(read(t, folder+"/values.schema.json")), &root); err != nil {
		t.Fatal(err)
	}
	if n := compare(t, "", values.Content[0], root); n < 80 {
		t.Errorf("%d values", n)
	}
}

// free are objects of Kubernetes, of which the chart knows nothing.
var free = []string{"affinity", "securityContext", "resources", "updateStrategy", "labels"}

func compare(t *testing.T, path string, values *yamlv3.Node, s schema) (n int) {
	t.Helper()
	if s.Additional != false {
		t.Errorf("%s: a typo would pass", path)
	}
	known := map[string]bool{"global": path == ""}
	for i := 0; i+1 < len(values.Content); i += 2 {
		key, value := values.Content[i], values.Content[i+1]
		here := strings.TrimPrefix(path+"."+key.Value, ".")
		known[key.Value] = true
		n++
		if key.HeadComment == "" {
			t.Errorf("%s: no comment", here)
		}
		child, ok := s.Properties[key.Value]
		if !ok {
			t.Errorf("%s: not in the schema", here)
			continue
		}
		nested := value.Kind == yamlv3.MappingNode && len(value.Content) > 0
		for _, f := range free {
			nested = nested && f != key.Value
		}
		if nested {
			n += compare(t, here, value, child)
		}
	}
	for name := range s.Properties {
		if !known[name] {
			t.Errorf("%s.%s: in the schema only", path, name)
		}
	}
	return n
}
