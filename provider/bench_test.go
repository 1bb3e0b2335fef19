package provider_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"akv-csi-provider/provider"
	"akv-csi-provider/provider/keyvault"
)

// cheap answers at once.
type cheap struct{ *vaults }

func (cheap) Get(_ context.Context, _ keyvault.Caller, o keyvault.Object, _ keyvault.Freshness) func() (keyvault.Value, error) {
	return func() (keyvault.Value, error) { return keyvault.Value{Version: "1", Text: o.Name}, nil }
}

func (cheap) Versions(context.Context, keyvault.Caller, keyvault.Object, int, keyvault.Freshness) func() ([]string, error) {
	return func() ([]string, error) { return []string{"1", "2"}, nil }
}

// What a mount costs beside its requests.
func BenchmarkMount(b *testing.B) {
	for name, field := range map[string]string{"plain": "", "histories": ", objectVersionHistory: 2"} {
		for _, n := range []int{1, 50} {
			var class strings.Builder
			for i := range n {
				fmt.Fprintf(&class, "- {objectName: s%d, objectType: secret%s}\n", i, field)
			}
			req := parse(b, class.String(), nil)
			var m *provider.Mounter = newMounter(&signIn{}, nil)
			m.Vaults = cheap{}
			b.Run(fmt.Sprintf("%s of %d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					m.SignIn = &signIn{}
					if _, err := m.Mount(b.Context(), req, time.Time{}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
