package e2e_test

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"akv-csi-provider/provider/azuretest"
	"akv-csi-provider/provider/request"

	"go.yaml.in/yaml/v3"
)

// manifest is what of a Kubernetes object the examples must agree on.
type manifest struct {
	Kind     string
	Metadata struct {
		Name, Namespace string
		Annotations     map[string]string
	}
	Spec struct {
		podSpec       `yaml:",inline"`
		Template      struct{ Spec podSpec }
		Parameters    map[string]string
		SecretObjects []struct {
			SecretName string `yaml:"secretName"`
			Data       []struct {
				ObjectName string `yaml:"objectName"`
				Key        string
			}
		} `yaml:"secretObjects"`
		TLS []struct {
			SecretName string `yaml:"secretName"`
		} `yaml:"tls"`
		SecretProviderClassName string `yaml:"secretProviderClassName"`
		SecretObject            struct {
			Data []struct {
				SourcePath string `yaml:"sourcePath"`
				TargetKey  string `yaml:"targetKey"`
			}
		} `yaml:"secretObject"`
	}
	Subjects   []struct{ Kind, Name, Namespace string }
	RoleRef    struct{ Name string } `yaml:"roleRef"`
	StringData map[string]string     `yaml:"stringData"`
	raw        []byte
	file       string
}

type podSpec struct {
	ServiceAccountName string `yaml:"serviceAccountName"`
	Containers         []struct {
		Command      []string
		VolumeMounts []struct {
			Name      string
			MountPath string `yaml:"mountPath"`
		} `yaml:"volumeMounts"`
		Env []struct {
			ValueFrom struct {
				SecretKeyRef struct{ Name, Key string } `yaml:"secretKeyRef"`
			} `yaml:"valueFrom"`
		}
	}
	Volumes []struct {
		Name string
		CSI  struct {
			Driver               string
			VolumeAttributes     map[string]string     `yaml:"volumeAttributes"`
			NodePublishSecretRef struct{ Name string } `yaml:"nodePublishSecretRef"`
		} `yaml:"csi"`
	}
}

// example is a folder's manifests by kind and name.
type example map[string]map[string]manifest

func readExample(t *testing.T, folder string) example {
	t.Helper()
	files, err := filepath.Glob(folder + "/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	found := make(example)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		decoder := yaml.NewDecoder(strings.NewReader(expand(t, string(text))))
		for {
			var node yaml.Node
			if err := decoder.Decode(&node); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			var m manifest
			if err := node.Decode(&m); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			if m.raw, err = yaml.Marshal(&node); err != nil {
				t.Fatal(err)
			}
			m.file = file
			if found[m.Kind] == nil {
				found[m.Kind] = make(map[string]manifest)
			}
			found[m.Kind][m.Metadata.Name] = m
			if cluster := strings.HasPrefix(m.Kind, "Cluster"); !cluster && m.Metadata.Namespace != values["NAMESPACE"] {
				t.Errorf("%s: %s is not in ${NAMESPACE}", file, m.Kind)
			}
		}
	}
	return found
}

// filesOf are the paths that a class makes below the mount, by the plugin's own rules.
func filesOf(t *testing.T, class manifest, secret map[string]string) []string {
	t.Helper()
	box, err := azuretest.New(azuretest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer box.Close()
	cluster, err := box.Cluster("https://oidc.contoso.example/")
	if err != nil {
		t.Fatal(err)
	}
	namespace := cmp.Or(class.Metadata.Namespace, values["NAMESPACE"])
	pod := azuretest.Pod{Namespace: namespace, Name: "web-0", ServiceAccount: "default", NodePublishSecret: secret}
	req, err := cluster.MountRequest(class.raw, pod, nil, "/mnt")
	if err != nil {
		t.Fatal(err)
	}
	mount, err := new(request.Parser).Parse(req.GetAttributes(), req.GetSecrets(), req.GetPermission())
	if err != nil {
		t.Fatal(err)
	}
	return pathsOf(mount)
}

// vaultSecrets are those of the site's vault that the examples search or take apart; the keys of
// the values that are JSON are in order.
var vaultSecrets = []struct{ name, value string }{
	{"appsettings", `{"logLevel":"info","queue":"orders"}`}, {"db", `{"password":"s3cret","username":"app"}`},
	{"feature-search", "on"}, {"keystore-password", "changeit"},
	{"payments-password", "s3cret"}, {"payments-user", "pay"}, {"worker-queue", "orders"}, {"worker-token", "t0ken"},
}

// pathsOf are the files that a volume has if the vault has what vaultSecrets are.
func pathsOf(mount *request.Mount) []string {
	var files []string
	for _, o := range mount.Objects {
		switch {
		case o.Optional && o.Name != "": // the site does not have it
		case o.Find != nil && o.Bundle == "":
			for _, s := range vaultSecrets {
				if m := o.Find.Name.FindStringSubmatch(s.name); m != nil {
					files = append(files, path.Join(o.Path, m[len(m)-1]))
				}
			}
		case o.Pieces != nil:
			files = append(files, piecesOf(o)...)
		case o.History <= 1:
			files = append(files, o.Path)
		default:
			for i := range o.History {
				files = append(files, o.Nth(i, "").Path)
			}
		}
	}
	return files
}

func piecesOf(o request.Object) (files []string) {
	if o.Path != "" && (o.Pieces.Expand == "" || o.Bundle != "") {
		files = append(files, o.Path)
	}
	if o.Pieces.Expand != "" && o.Bundle == "" {
		for _, s := range vaultSecrets {
			if s.name == o.Name {
				for _, m := range regexp.MustCompile(`"(\w+)":`).FindAllStringSubmatch(s.value, -1) {
					files = append(files, path.Join(o.Path, m[1]))
				}
			}
		}
	}
	for _, p := range o.Pieces.Paths {
		if !p.Optional {
			files = append(files, p.Path)
		}
	}
	for _, p := range o.Pieces.Parts {
		files = append(files, p.Path)
	}
	return files
}

var mounted = regexp.MustCompile(`/mnt/secrets/([^ ;"']+)`)

// The manifests of an example agree on the service account, on what is mounted and
// read, and on which Kubernetes Secrets there will be.
func TestExamplesAgree(t *testing.T) {
	classes, err := filepath.Glob("../deploy/examples/*/secretproviderclass.yaml")
	if err != nil || len(classes) < 14 {
		t.Fatalf("%d examples, %v", len(classes), err)
	}
	for _, file := range classes {
		folder := filepath.Dir(file)
		t.Run(filepath.Base(folder), func(t *testing.T) {
			all := readExample(t, folder)
			workloads := maps.Clone(all["Pod"])
			if workloads == nil {
				workloads = make(map[string]manifest)
			}
			for name, m := range all["Deployment"] {
				m.Spec.podSpec = m.Spec.Template.Spec
				workloads[name] = m
			}
			if len(workloads) == 0 || len(all["ServiceAccount"]) == 0 || len(all["SecretProviderClass"]) == 0 {
				t.Fatal("not a workload, a ServiceAccount and a SecretProviderClass")
			}
			synced := make(map[string][]string) // keys of Secrets that the driver makes, by name
			for _, w := range workloads {
				checkWorkload(t, all, w, synced)
			}
			for name, s := range all["SecretSync"] {
				synced[name] = append(synced[name], checkSecretSync(t, all, s)...)
			}
			for _, w := range workloads {
				for _, c := range w.Spec.Containers {
					for _, env := range c.Env {
						if ref := env.ValueFrom.SecretKeyRef; ref.Name != "" && !slices.Contains(synced[ref.Name], ref.Key) {
							t.Errorf("%s: no class makes key %s of Secret %s", w.Metadata.Name, ref.Key, ref.Name)
						}
					}
				}
			}
			for _, ingress := range all["Ingress"] {
				for _, tls := range ingress.Spec.TLS {
					if keys := synced[tls.SecretName]; !slices.Contains(keys, "tls.crt") || !slices.Contains(keys, "tls.key") {
						t.Errorf("no class makes the Secret %s of the Ingress", tls.SecretName)
					}
				}
			}
			for _, binding := range all["ClusterRoleBinding"] {
				if _, ok := all["ClusterRole"][binding.RoleRef.Name]; !ok {
					t.Errorf("no ClusterRole %s", binding.RoleRef.Name)
				}
				for _, s := range binding.Subjects {
					if _, ok := all["ServiceAccount"][s.Name]; !ok || s.Namespace != values["NAMESPACE"] {
						t.Errorf("no ServiceAccount %s in %s", s.Name, s.Namespace)
					}
				}
			}
		})
	}
}

// checkSynced checks that the files exist of which the driver is to make a Kubernetes
// Secret: else there is an event on the pod and no Secret.
func checkSynced(t *testing.T, class manifest, files []string) {
	t.Helper()
	for _, object := range class.Spec.SecretObjects {
		for _, d := range object.Data {
			if !slices.Contains(files, d.ObjectName) {
				t.Errorf("class %s: secretObjects name %s, the files are %q", class.Metadata.Name, d.ObjectName, files)
			}
		}
	}
}

// checkSecretSync follows a SecretSync to its account, class and files, and returns the keys of
// the Secret that the controller makes.
func checkSecretSync(t *testing.T, all example, s manifest) (keys []string) {
	t.Helper()
	class, ok := all["SecretProviderClass"][s.Spec.SecretProviderClassName]
	if _, account := all["ServiceAccount"][s.Spec.ServiceAccountName]; !ok || !account {
		t.Fatalf("SecretSync %s: no class or no ServiceAccount", s.Metadata.Name)
	}
	if class.Spec.Parameters["clientID"] == "" {
		t.Errorf("class %s: the provider beside the controller cannot read ServiceAccounts", class.Metadata.Name)
	}
	files := filesOf(t, class, nil)
	for _, d := range s.Spec.SecretObject.Data {
		if !slices.Contains(files, d.SourcePath) {
			t.Errorf("SecretSync %s names %s, the files are %q", s.Metadata.Name, d.SourcePath, files)
		}
		keys = append(keys, d.TargetKey)
	}
	return keys
}

// checkWorkload follows a pod to its account, class and files, and notes the
// Secrets that the driver makes while it runs.
func checkWorkload(t *testing.T, all example, w manifest, synced map[string][]string) {
	t.Helper()
	account, ok := all["ServiceAccount"][w.Spec.ServiceAccountName]
	if !ok {
		t.Errorf("no ServiceAccount %q", w.Spec.ServiceAccountName)
	}
	if w.file < account.file { // the API server refuses a pod whose account is not there yet
		t.Errorf("%s comes before %s", w.file, account.file)
	}
	for _, v := range w.Spec.Volumes {
		class, ok := all["SecretProviderClass"][v.CSI.VolumeAttributes["secretProviderClass"]]
		if !ok || v.CSI.Driver != "secrets-store.csi.k8s.io" {
			t.Errorf("volume %s: no class of the driver", v.Name)
			continue
		}
		var secret map[string]string
		if name := v.CSI.NodePublishSecretRef.Name; name != "" {
			if secret = all["Secret"][name].StringData; len(secret) == 0 {
				t.Errorf("no Secret %s", name)
			}
		}
		p := class.Spec.Parameters
		if account.Metadata.Annotations["azure.workload.identity/client-id"] == "" && p["clientID"] == "" &&
			p["useVMManagedIdentity"] != "true" && secret["clientid"] == "" {
			t.Errorf("class %s: no identity is configured", class.Metadata.Name)
		}
		files := filesOf(t, class, secret)
		checkSynced(t, class, files)
		for _, object := range class.Spec.SecretObjects {
			for _, d := range object.Data {
				synced[object.SecretName] = append(synced[object.SecretName], d.Key)
			}
		}
		for _, c := range w.Spec.Containers {
			if len(c.VolumeMounts) != 1 || c.VolumeMounts[0].Name != v.Name || c.VolumeMounts[0].MountPath != "/mnt/secrets" {
				t.Errorf("%s does not mount %s at /mnt/secrets", w.Metadata.Name, v.Name)
			}
			checkMounted(t, w.file+": "+w.Metadata.Name, c.Command, files)
		}
	}
}

// checkMounted finds the files that a command reads below the mount among those that are there.
func checkMounted(t *testing.T, who string, command, files []string) {
	t.Helper()
	for _, m := range mounted.FindAllStringSubmatch(fmt.Sprint(command), -1) {
		want := strings.TrimSuffix(m[1], "]")
		if !slices.ContainsFunc(files, func(file string) bool { ok, _ := path.Match(want, file); return ok }) {
			t.Errorf("%s reads %s, the files are %q", who, want, files)
		}
	}
}
