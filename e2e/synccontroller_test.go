package e2e_test

import (
	"os"
	"reflect"
	"slices"
	"testing"

	"go.yaml.in/yaml/v3"
)

// container is what the provider beside secrets-store-sync-controller shares with that of the
// DaemonSet.
type container struct {
	Image           string
	Args            []string
	Env             []struct{ Name, Value string }
	Resources       map[string]map[string]string
	SecurityContext map[string]any `yaml:"securityContext"`
	LivenessProbe   map[string]any `yaml:"livenessProbe"`
	VolumeMounts    []struct {
		MountPath string `yaml:"mountPath"`
	} `yaml:"volumeMounts"`
}

// The provider beside the controller has the bounds and rights of the DaemonSet's, and its socket.
func TestSyncControllerValues(t *testing.T) {
	var values struct {
		Audiences []struct{ Audience string } `yaml:"tokenRequestAudience"`
		Container []container                 `yaml:"providerContainer"`
	}
	if err := yaml.Unmarshal([]byte(read(t, "../deploy/sync-controller/values.yaml")), &values); err != nil {
		t.Fatal(err)
	}
	var daemonSet struct {
		Spec struct {
			Template struct {
				Spec struct{ Containers []container }
			}
		}
	}
	file, err := os.Open("../deploy/manifests/daemonset.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := yaml.NewDecoder(file).Decode(&daemonSet); err != nil {
		t.Fatal(err)
	}
	if len(values.Container) != 1 || len(daemonSet.Spec.Template.Spec.Containers) != 1 {
		t.Fatal("not one container each")
	}
	got, want := values.Container[0], daemonSet.Spec.Template.Spec.Containers[0]
	if got.Args[0] != want.Args[0] || !slices.Equal(got.Args[1:], []string{"--identity-modes=workload-identity"}) {
		t.Errorf("arguments %q, the DaemonSet's are %q", got.Args, want.Args)
	}
	got.Args, want.Args = nil, nil
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant, as in the DaemonSet,\n%+v", got, want)
	}
	if len(values.Audiences) != 1 || values.Audiences[0].Audience != "api://AzureADTokenExchange" {
		t.Errorf("audiences %v", values.Audiences)
	}
}
