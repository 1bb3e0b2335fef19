// Package policy_test runs deploy/policy in the admission plugin of the Kubernetes API server,
// and compares it with what the provider itself says of the same classes. It is a separate
// module, so that the API server's libraries do not choose versions for the driver's.
package policy_test

import (
	"context"
	"maps"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"sigs.k8s.io/yaml"
)

const namespace = "shop"

var (
	classKind = schema.GroupVersionKind{Group: "secrets-store.csi.x-k8s.io", Version: "v1", Kind: "SecretProviderClass"}
	podKind   = corev1.SchemeGroupVersion.WithKind("Pod")
)

// resources are the names of the kinds here.
var resources = map[schema.GroupVersionKind]schema.GroupVersionResource{
	classKind: classKind.GroupVersion().WithResource("secretproviderclasses"),
	podKind:   podKind.GroupVersion().WithResource("pods"),
}

func mapper() meta.RESTMapper {
	m := meta.NewDefaultRESTMapper(nil)
	for kind, resource := range resources {
		m.AddSpecific(kind, resource, resource, meta.RESTScopeNamespace)
	}
	return m
}

// policies reads one file of deploy/policy, a policy and its binding, and refuses fields
// that the API does not know.
func policies(t *testing.T, file string) (*admissionv1.ValidatingAdmissionPolicy, *admissionv1.ValidatingAdmissionPolicyBinding) {
	t.Helper()
	text, err := os.ReadFile("../../deploy/policy/" + file)
	if err != nil {
		t.Fatal(err)
	}
	documents := strings.Split(string(text), "\n---\n")
	if len(documents) != 2 {
		t.Fatalf("%s: %d documents", file, len(documents))
	}
	policy := new(admissionv1.ValidatingAdmissionPolicy)
	binding := new(admissionv1.ValidatingAdmissionPolicyBinding)
	for i, into := range []runtime.Object{policy, binding} {
		if err := yaml.UnmarshalStrict([]byte(documents[i]), into); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
	// What the API server fills in.
	equivalent := admissionv1.Equivalent
	policy.Spec.MatchConstraints.MatchPolicy = &equivalent
	policy.Spec.MatchConstraints.NamespaceSelector = new(metav1.LabelSelector)
	policy.Spec.MatchConstraints.ObjectSelector = new(metav1.LabelSelector)
	if r := binding.Spec.MatchResources; r != nil {
		r.MatchPolicy = &equivalent
		if r.NamespaceSelector == nil {
			r.NamespaceSelector = new(metav1.LabelSelector)
		}
		if r.ObjectSelector == nil {
			r.ObjectSelector = new(metav1.LabelSelector)
		}
	}
	return policy, binding
}

// server is the API server's admission with the policies, in a cluster with the classes. An
// expression that cannot be evaluated denies here, so that no test passes by failurePolicy.
type server struct{ plugin *validating.Plugin }

type anybody struct{}

func (anybody) Authorize(context.Context, authorizer.Attributes) (authorizer.Decision, string, error) {
	return authorizer.DecisionAllow, "", nil
}

// advice and enforce are the files of the two strengths.
var (
	advice  = []string{"classes.yaml", "pods.yaml"}
	enforce = []string{"enforce/classes.yaml", "enforce/pods.yaml"}
)

// start starts a server with the policies that advise.
func start(t *testing.T, classes ...*unstructured.Unstructured) server {
	t.Helper()
	return startWith(t, advice, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, classes...)
}

func startWith(t *testing.T, files []string, in *corev1.Namespace, classes ...*unstructured.Unstructured) server {
	t.Helper()
	s := startActing(t, nil, files, in, classes...)
	if _, ok := in.Labels[exempted]; !ok && s.apply(class("azure", nil), nil) == nil {
		t.Fatal("no policy is at work")
	}
	return s
}

// startActing starts a server whose bindings have other actions than those of the files, unless there
// are none.
func startActing(t *testing.T, actions []admissionv1.ValidationAction, files []string, in *corev1.Namespace, classes ...*unstructured.Unstructured) server {
	t.Helper()
	objects := []runtime.Object{in}
	for _, file := range files {
		policy, binding := policies(t, file)
		fail := admissionv1.Fail
		policy.Spec.FailurePolicy = &fail
		if len(actions) > 0 {
			binding.Spec.ValidationActions = actions
		}
		objects = append(objects, policy, binding)
	}
	known := runtime.NewScheme()
	params := make([]runtime.Object, 0, len(classes))
	for _, class := range classes {
		params = append(params, class)
	}
	dynamic := dynamicfake.NewSimpleDynamicClientWithCustomListKinds(known,
		map[schema.GroupVersionResource]string{resources[classKind]: "SecretProviderClassList"}, params...)
	client := fake.NewClientset(objects...)
	factory := informers.NewSharedInformerFactory(client, 0)
	plugin, err := validating.NewPlugin(nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	plugin.SetExternalKubeClientSet(client)
	plugin.SetExternalKubeInformerFactory(factory)
	plugin.SetRESTMapper(mapper())
	plugin.SetDynamicClient(dynamic)
	plugin.SetDrainedNotification(ctx.Done())
	plugin.SetUnconditionalAuthorizer(anybody{})
	if err := plugin.ValidateInitialization(); err != nil {
		t.Fatal(err)
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	if !plugin.WaitForReady() {
		t.Fatal("the plugin is not ready")
	}
	return server{plugin}
}

// exempted is the label of namespaces to which the policies that enforce do not apply.
const exempted = "akv-csi-provider/policy"

// apply returns what a user reads when the object is refused, nil if it is not.
func (s server) apply(object, old *unstructured.Unstructured) error {
	kind := object.GroupVersionKind()
	operation := admission.Create
	var before runtime.Object
	if old != nil {
		operation, before = admission.Update, old
	}
	a := admission.NewAttributesRecord(object, before, kind, object.GetNamespace(), object.GetName(), resources[kind], "",
		operation, nil, false, &user.DefaultInfo{Name: "developer"})
	return s.plugin.Validate(context.Background(), a, admission.NewObjectInterfacesFromScheme(scheme.Scheme))
}

// schemas resolve the kinds of the policies for the type check: a Pod from its Go type, a
// class as its CustomResourceDefinition has it.
type schemas struct{}

func (schemas) ResolveSchema(kind schema.GroupVersionKind) (*spec.Schema, error) {
	if kind == podKind {
		return goSchema(reflect.TypeFor[corev1.Pod](), nil), nil
	}
	return goSchema(reflect.TypeFor[struct {
		metav1.TypeMeta   `json:",inline"`
		metav1.ObjectMeta `json:"metadata"`
		Spec              struct {
			Provider   string            `json:"provider"`
			Parameters map[string]string `json:"parameters"`
		} `json:"spec"`
	}](), nil), nil
}

// goSchema is the OpenAPI schema of a type of the API.
func goSchema(t reflect.Type, within []reflect.Type) *spec.Schema {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	for _, outer := range within {
		if outer == t {
			return spec.MapProperty(spec.StringProperty())
		}
	}
	switch t.Kind() {
	case reflect.String:
		return spec.StringProperty()
	case reflect.Bool:
		return spec.BooleanProperty()
	case reflect.Int32, reflect.Int64:
		return spec.Int64Property()
	case reflect.Map:
		return spec.MapProperty(goSchema(t.Elem(), within))
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return spec.StringProperty()
		}
		return spec.ArrayProperty(goSchema(t.Elem(), within))
	case reflect.Struct:
		s := &spec.Schema{SchemaProps: spec.SchemaProps{Type: []string{"object"}, Properties: map[string]spec.Schema{}}}
		for i := range t.NumField() {
			f := t.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			switch field := goSchema(f.Type, append(within, t)); {
			case f.Anonymous && name == "":
				maps.Copy(s.Properties, field.Properties)
			case name != "-":
				s.Properties[name] = *field
			}
		}
		return s
	}
	return spec.StringProperty()
}
