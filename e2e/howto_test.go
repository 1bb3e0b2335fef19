package e2e_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/itchyny/gojq"
	"go.yaml.in/yaml/v3"
	appsv1 "k8s.io/api/apps/v1"
	strictyaml "sigs.k8s.io/yaml"
)

// howTos are the pages with one task each.
func howTos(t *testing.T) []string {
	t.Helper()
	pages, err := filepath.Glob("../deploy/howto/*.md")
	if err != nil || len(pages) < 12 {
		t.Fatalf("%d how-tos, %v", len(pages), err)
	}
	return pages
}

// The index lists every how-to once.
func TestHowToIndex(t *testing.T) {
	_, index, _ := strings.Cut(read(t, "../deploy/README.md"), "\n## How-tos\n")
	index, _, _ = strings.Cut(index, "\n## ")
	var listed, found []string
	for _, m := range links.FindAllStringSubmatch(index, -1) {
		listed = append(listed, m[1])
	}
	for _, page := range howTos(t) {
		found = append(found, "howto/"+filepath.Base(page))
	}
	if slices.Sort(listed); !slices.Equal(listed, found) {
		t.Errorf("the index has %q, there are %q", listed, found)
	}
}

// manifestsIn are the Kubernetes objects in the YAML of a document, by kind and name.
func manifestsIn(t *testing.T, document string) example {
	t.Helper()
	found := make(example)
	for _, m := range fence.FindAllStringSubmatch(read(t, document), -1) {
		decoder := yaml.NewDecoder(strings.NewReader(asApplied(t, m[1])))
		for {
			var node yaml.Node
			if err := decoder.Decode(&node); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", document, err)
			}
			var object manifest
			if node.Decode(&object) != nil || object.Kind == "" {
				continue
			}
			var err error
			if object.raw, err = yaml.Marshal(&node); err != nil {
				t.Fatal(err)
			}
			if found[object.Kind] == nil {
				found[object.Kind] = make(map[string]manifest)
			}
			found[object.Kind][object.Metadata.Name] = object
		}
	}
	return found
}

// In a document that shows classes, the pods mount these, in their namespace, and read files and
// Secrets that they make.
func TestDocumentsAgree(t *testing.T) {
	workloads := 0
	for _, document := range append(howTos(t), "../README.md", "../deploy/QUICKSTART.md") {
		all := manifestsIn(t, document)
		pods := maps.Clone(all["Pod"])
		if pods == nil {
			pods = make(map[string]manifest)
		}
		for name, m := range all["Deployment"] {
			m.Spec.podSpec = m.Spec.Template.Spec
			pods[name] = m
		}
		for name, pod := range pods {
			for _, volume := range pod.Spec.Volumes {
				if all["SecretProviderClass"] == nil || volume.CSI.Driver == "" {
					continue
				}
				workloads++
				class, ok := all["SecretProviderClass"][volume.CSI.VolumeAttributes["secretProviderClass"]]
				if !ok || class.Metadata.Namespace != pod.Metadata.Namespace {
					t.Errorf("%s: %s mounts a class that is not there", document, name)
					continue
				}
				checkReads(t, document, class, pod)
			}
		}
	}
	if workloads < 5 {
		t.Errorf("%d volumes", workloads)
	}
}

// checkReads compares what the containers read with what the class makes.
func checkReads(t *testing.T, document string, class, pod manifest) {
	t.Helper()
	files := filesOf(t, class, nil)
	files = append(files, bundles(class)...)
	for _, c := range pod.Spec.Containers {
		checkMounted(t, document+": "+pod.Metadata.Name, c.Command, files)
		for _, env := range c.Env {
			ref, made := env.ValueFrom.SecretKeyRef, false
			for _, object := range class.Spec.SecretObjects {
				for _, d := range object.Data {
					made = made || object.SecretName == ref.Name && d.Key == ref.Key
				}
			}
			if ref.Name != "" && !made {
				t.Errorf("%s: no class makes key %s of Secret %s", document, ref.Key, ref.Name)
			}
		}
	}
}

// bundles are the files of a class with all matches of a search in them.
func bundles(class manifest) (files []string) {
	var objects []struct {
		Bundle string
		Alias  string `yaml:"objectAlias"`
	}
	if yaml.Unmarshal([]byte(class.Spec.Parameters["objects"]), &objects) == nil {
		for _, o := range objects {
			if o.Bundle != "" {
				files = append(files, o.Alias)
			}
		}
	}
	return files
}

// driverValues are the values of the driver's chart, of the version that this module requires.
func driverValues(t *testing.T) map[string]any {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/secrets-store-csi-driver").Output()
	if err != nil {
		t.Fatal(err)
	}
	var all struct{ Linux map[string]any }
	text := read(t, filepath.Join(strings.TrimSpace(string(dir)), "charts/secrets-store-csi-driver/values.yaml"))
	if err := yaml.Unmarshal([]byte(text), &all); err != nil {
		t.Fatal(err)
	}
	return all.Linux
}

// The images that a cluster without internet needs are those of the driver's chart, each with
// the value that names it, and each is copied.
func TestAirGappedImages(t *testing.T) {
	page := read(t, "../deploy/howto/air-gapped.md")
	want := make(map[string]string) // value of the chart, by image
	var collect func(at string, values map[string]any)
	collect = func(at string, values map[string]any) {
		if repository, ok := values["repository"].(string); ok {
			want[repository+":"+fmt.Sprint(values["tag"])] = at + ".repository="
		}
		for key, value := range values {
			if below, ok := value.(map[string]any); ok {
				collect(at+"."+key, below)
			}
		}
	}
	collect("linux", driverValues(t))
	if len(want) < 4 {
		t.Fatalf("the driver's chart has the images %v", want)
	}
	var listed []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(registry[^`]+)` \\|").FindAllStringSubmatch(page, -1) {
		listed = append(listed, m[1])
	}
	slices.Sort(listed)
	if images := slices.Sorted(maps.Keys(want)); !slices.Equal(listed, images) {
		t.Errorf("listed are\n%q, the driver's chart has\n%q", listed, images)
	}
	for image, value := range want {
		repository, _, _ := strings.Cut(strings.TrimPrefix(image, "registry.k8s.io"), ":v")
		if !strings.Contains(page, "crane copy "+image+` "$MIRROR`+strings.TrimPrefix(image, "registry.k8s.io")+`"`) {
			t.Errorf("%s is not copied", image)
		}
		if !strings.Contains(page, "--set "+value+`"$MIRROR`+repository+`"`) {
			t.Errorf("%s is not set to the copy of %s", value, image)
		}
	}
}

// The query for empty volumes finds the running pod without a status of the driver, and no other.
func TestEmptyVolumeQuery(t *testing.T) {
	program := regexp.MustCompile(`(?s)--slurpfile statuses statuses.json '(.*?)' pods.json`).FindStringSubmatch(read(t, "../deploy/howto/empty-volume.md"))
	if program == nil {
		t.Fatal("no query")
	}
	pod := func(name, phase, driver string) string {
		return fmt.Sprintf(`{"metadata": {"namespace": "shop", "name": %q}, "status": {"phase": %q}, "spec": {"volumes": [{"emptyDir": {}},
			{"csi": {"driver": %q, "volumeAttributes": {"secretProviderClass": "web"}}}]}}`, name, phase, driver)
	}
	var pods, statuses any
	for text, into := range map[string]*any{
		`{"items": [` + strings.Join([]string{
			pod("full", "Running", "secrets-store.csi.k8s.io"), pod("empty", "Running", "secrets-store.csi.k8s.io"),
			pod("waits", "Pending", "secrets-store.csi.k8s.io"), pod("other", "Running", "disk.csi.azure.com"),
			`{"metadata": {"namespace": "shop", "name": "bare"}, "status": {"phase": "Running"}, "spec": {}}`,
		}, ",") + `]}`: &pods,
		`[{"items": [{"metadata": {"namespace": "shop", "name": "full-shop-web"}}, {"metadata": {"namespace": "dev", "name": "empty-shop-web"}}]}]`: &statuses,
	} {
		if err := json.Unmarshal([]byte(text), into); err != nil {
			t.Fatal(err)
		}
	}
	parsed, err := gojq.Parse(program[1])
	if err != nil {
		t.Fatal(err)
	}
	query, err := gojq.Compile(parsed, gojq.WithVariables([]string{"$statuses"}))
	if err != nil {
		t.Fatal(err)
	}
	var got []any
	for iter := query.Run(pods, statuses); ; {
		v, ok := iter.Next()
		if !ok {
			break
		}
		got = append(got, v)
	}
	if !reflect.DeepEqual(got, []any{"shop/empty"}) {
		t.Errorf("got %v", got)
	}
}

// constraints are the fields of OpenShift's SecurityContextConstraints that the how-to sets.
type constraints struct {
	APIVersion   string `yaml:"apiVersion"`
	Kind         string
	Metadata     struct{ Name string }
	HostDir      bool                  `yaml:"allowHostDirVolumePlugin"`
	HostIPC      bool                  `yaml:"allowHostIPC"`
	HostNetwork  bool                  `yaml:"allowHostNetwork"`
	HostPID      bool                  `yaml:"allowHostPID"`
	HostPorts    bool                  `yaml:"allowHostPorts"`
	Escalation   bool                  `yaml:"allowPrivilegeEscalation"`
	Privileged   bool                  `yaml:"allowPrivilegedContainer"`
	ReadOnlyRoot bool                  `yaml:"readOnlyRootFilesystem"`
	Allowed      []string              `yaml:"allowedCapabilities"`
	Added        []string              `yaml:"defaultAddCapabilities"`
	Dropped      []string              `yaml:"requiredDropCapabilities"`
	RunAsUser    struct{ Type string } `yaml:"runAsUser"`
	FSGroup      struct{ Type string } `yaml:"fsGroup"`
	Supplemental struct{ Type string } `yaml:"supplementalGroups"`
	SELinux      struct {
		Type    string
		Options struct{ Type string } `yaml:"seLinuxOptions"`
	} `yaml:"seLinuxContext"`
	Seccomp []string `yaml:"seccompProfiles"`
	Users   []string
	Groups  []string
	Volumes []string
}

// OpenShift's constraints allow what the DaemonSet of deploy/manifests needs, and no more.
func TestOpenShiftConstraints(t *testing.T) {
	var scc constraints
	for _, m := range fence.FindAllStringSubmatch(read(t, "../deploy/howto/openshift.md"), -1) {
		decoder := yaml.NewDecoder(strings.NewReader(m[1]))
		decoder.KnownFields(true)
		if err := decoder.Decode(&scc); err != nil {
			t.Fatal(err)
		}
	}
	var set appsv1.DaemonSet
	if err := strictyaml.UnmarshalStrict([]byte(read(t, "../deploy/manifests/daemonset.yaml")), &set); err != nil {
		t.Fatal(err)
	}
	pod := set.Spec.Template.Spec
	container := pod.Containers[0].SecurityContext
	if scc.HostNetwork != pod.HostNetwork || scc.HostPorts != (pod.HostNetwork && len(pod.Containers[0].Ports) > 0) ||
		scc.HostPID != pod.HostPID || scc.HostIPC != pod.HostIPC || scc.Privileged != *container.Privileged ||
		scc.Escalation != *container.AllowPrivilegeEscalation || scc.ReadOnlyRoot != *container.ReadOnlyRootFilesystem {
		t.Errorf("%+v allows other things than %+v needs", scc, container)
	}
	if len(scc.Allowed)+len(scc.Added)+len(container.Capabilities.Add) > 0 || !slices.Equal(scc.Dropped, []string{"ALL"}) {
		t.Errorf("capabilities: %+v", scc)
	}
	for _, v := range pod.Volumes {
		if v.HostPath == nil || !scc.HostDir || !slices.Contains(scc.Volumes, "hostPath") {
			t.Errorf("the volume %s is not allowed", v.Name)
		}
	}
	if len(scc.Groups) > 0 || len(scc.Users) != 1 || !strings.HasSuffix(scc.Users[0], ":"+pod.ServiceAccountName) {
		t.Errorf("for %q and %q", scc.Users, scc.Groups)
	}
}
