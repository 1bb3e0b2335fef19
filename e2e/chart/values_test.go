package chart_test

import (
	"encoding/json"
	"strings"
	"testing"

	yamlv3 "go.yaml.in/yaml/v3"
)

type schema struct {
	Ref        string `json:"$ref"`
	Properties map[string]schema
	Additional any               `json:"additionalProperties"`
	Defs       map[string]schema `json:"$defs"`
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
	if n := compare(t, "", values.Content[0], root, root.Defs); n < 120 {
		t.Errorf("%d values", n)
	}
}

// replaced are keys of the replaced chart that have no effect.
var replaced = []string{
	"secrets-store-csi-driver", "enableArcExtension", "arc", "Azure",
	"promMdmConverter", "mdm", "msiAdapter", "telegraf", "amacoreagent", "fluentd",
}

// free are objects of Kubernetes, of which the chart knows nothing.
var free = []string{"affinity", "securityContext", "resources", "updateStrategy", "labels", "livenessProbe", "readinessProbe", "nodeSelector"}

func compare(t *testing.T, path string, values *yamlv3.Node, s schema, defs map[string]schema) (n int) {
	t.Helper()
	if name, ok := strings.CutPrefix(s.Ref, "#/$defs/"); ok {
		s = defs[name]
	}
	if path != "global" && s.Additional != false {
		t.Errorf("%s: a typo would pass", path)
	}
	known := make(map[string]bool)
	if path == "" {
		known["enabled"] = true // of charts above this one
		for _, name := range replaced {
			known[name] = true
		}
	}
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
			n += compare(t, here, value, child, defs)
		}
	}
	for name := range s.Properties {
		if !known[name] {
			t.Errorf("%s.%s: in the schema only", path, name)
		}
	}
	return n
}
