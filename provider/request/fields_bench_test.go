package request_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"akv-csi-provider/provider/request"
)

// BenchmarkParse reads a request of ten objects in the form of the replaced provider and
// in the shorter one.
func BenchmarkParse(b *testing.B) {
	var texts, list strings.Builder
	texts.WriteString("array:\n")
	for i := range 10 {
		fmt.Fprintf(&texts, "  - |\n    objectName: secret-%d\n    objectType: secret\n    objectAlias: files/%d\n", i, i)
		fmt.Fprintf(&list, "- {objectName: secret-%d, objectType: secret, objectAlias: files/%d}\n", i, i)
	}
	for name, objects := range map[string]string{"texts": texts.String(), "list": list.String()} {
		b.Run(name, func(b *testing.B) {
			attributes, err := json.Marshal(map[string]string{
				"csi.storage.k8s.io/pod.name": "web-0", "csi.storage.k8s.io/pod.namespace": "shop",
				"csi.storage.k8s.io/serviceAccount.tokens": `{"api://AzureADTokenExchange":{"token":"` + strings.Repeat("x", 1200) + `"}}`,
				"keyvaultName": "contoso", "clientID": "c", "tenantID": "t", "objects": objects,
			})
			if err != nil {
				b.Fatal(err)
			}
			caching := request.NewParser()
			for name, parser := range map[string]*request.Parser{"first": new(request.Parser), "again": caching} {
				b.Run(name, func(b *testing.B) {
					b.ReportAllocs()
					for b.Loop() {
						if _, err := parser.Parse(string(attributes), "null", "420"); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		})
	}
}
