package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"akv-csi-provider/provider/cloud"
	"akv-csi-provider/provider/entra"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/request"
)

// class is the SecretProviderClass of a volume.
type class struct {
	err        error // why it could not be read
	provider   string
	parameters map[string]string // its own
	mount      *request.Mount    // of parameters and the pod's volumeAttributes; as far as it is valid
	credential string            // how the pod signs in, in words
	federated  bool              // it presents its service-account token
}

// defaultMode is the file mode that the driver sends.
const defaultMode fs.FileMode = 0o644

func (e *examination) readClass() {
	object, err := e.reader.Class(e.ctx, e.pod.Namespace, e.volume.Class)
	if e.class.err = err; err != nil {
		e.class.mount, e.class.federated = &request.Mount{}, true
		return
	}
	e.class.provider, _, _ = unstructured.NestedString(object.Object, "spec", "provider")
	e.class.parameters, _, _ = unstructured.NestedStringMap(object.Object, "spec", "parameters")
	e.class.mount, _ = new(request.Parser).ParseClass(e.merged(), defaultMode)
	id := e.class.mount.Identity
	switch {
	case id.UseAzureTokenProxy:
		e.class.credential, e.class.federated = "AKS identity binding", true
	case id.UseVMManagedIdentity:
		e.class.credential = "the class uses a managed identity of the node"
	case id.ClientID == "" && e.volume.Secret != "":
		e.class.credential = "the credential comes from Secret " + e.volume.Secret
	default:
		e.class.credential, e.class.federated = "the pod's service account token", true
	}
}

// merged are the parameters that the provider gets: the pod's volumeAttributes take precedence.
func (e *examination) merged() map[string]string {
	all := maps.Clone(e.class.parameters)
	if all == nil {
		all = make(map[string]string)
	}
	maps.Copy(all, e.volume.Attributes)
	return all
}

// audiences are those of which one must be requested: none if the identity needs no token. A cloud
// accepts its own and the public one.
func (c class) audiences(flag string) []string {
	switch {
	case !c.federated:
		return nil
	case c.mount.Identity.UseAzureTokenProxy:
		return []string{entra.BindingAudience}
	case flag != "":
		return []string{flag, entra.Audience}
	}
	resolved, err := new(cloud.Resolver).Resolve(c.mount.Cloud.Name, "")
	if err != nil || resolved.TokenAudience == "" {
		return []string{entra.Audience}
	}
	return slices.Compact([]string{resolved.TokenAudience, entra.Audience})
}

// classExists checks that the class is in the pod's namespace and meant for this provider.
func (e *examination) classExists() *Check {
	const name = "class"
	namespace, class := e.pod.Namespace, e.volume.Class
	switch {
	case class == "":
		return problem(name, "the volume "+e.volume.Name+" names no SecretProviderClass", "set secretProviderClass in its volumeAttributes")
	case apierrors.IsNotFound(e.class.err):
		check := problem(name, fmt.Sprintf("SecretProviderClass %s does not exist in namespace %s", class, namespace),
			"create it in the pod's namespace, or correct secretProviderClass of the volume")
		if names, err := e.reader.ClassNames(e.ctx, namespace); err == nil {
			if near := request.Nearest(class, names...); near != "" {
				check.Text += "; there is " + near
			}
		}
		return check
	case e.class.err != nil:
		return unread(name, "SecretProviderClass "+class, e.class.err)
	case e.class.provider != "azure":
		return problem(name, fmt.Sprintf("SecretProviderClass %s is for provider %q, not \"azure\"", class, e.class.provider),
			"set spec.provider: azure, in lower case")
	}
	return fine(name, fmt.Sprintf("SecretProviderClass %s is for provider azure", class))
}

// parameters checks the class as the provider does, together with the pod's volumeAttributes.
func (e *examination) parameters() *Check {
	const name = "parameters"
	if e.class.err != nil {
		return notReached(name, "the class was not read")
	}
	if found := e.invalid(e.merged()); found != nil {
		where, fix := "SecretProviderClass "+e.volume.Class, "correct the class; the reference is provider/README.md"
		if len(e.overrides()) > 0 && e.invalid(e.class.parameters) == nil {
			where, fix = "the pod's volumeAttributes", "correct the volumeAttributes of the pod: they override the class"
		}
		check := problem(name, where+" is invalid: "+found.Error(), fix)
		if len(found.Problems) == 1 {
			p := found.Problems[0]
			check.Text, check.Fix = where+" is invalid: "+p.Field+": "+p.Cause, p.Fix
		}
		if strings.HasPrefix(where, "the pod's") {
			check.Text = strings.Replace(check.Text, "is invalid", "are invalid", 1)
		}
		check.Reasons = []string{string(fault.InvalidParameter)}
		return check
	}
	text := fmt.Sprintf("valid: %d entries of objects", len(e.class.mount.Objects))
	if len(e.class.mount.Objects) == 1 {
		text = "valid: 1 entry of objects"
	}
	if v := e.class.mount.Vault; v != "" {
		text += ", vault " + v
	}
	if n := len(e.class.mount.Warnings); n > 0 {
		w := e.class.mount.Warnings[0]
		text += fmt.Sprintf("; warnings: %d, the first: %s %s", n, w.Field, w.Cause)
	}
	if overrides := e.overrides(); len(overrides) > 0 {
		text += "; the pod's volumeAttributes override " + strings.Join(overrides, ", ")
	}
	return fine(name, text)
}

// invalid is what the provider finds wrong; nil for nothing.
func (e *examination) invalid(parameters map[string]string) *fault.Error {
	mount, problems := new(request.Parser).ParseClass(parameters, defaultMode)
	named := func(p fault.Problem) bool { return p.Field == "cloudName" }
	if mount.Cloud.Name != "" && !slices.ContainsFunc(problems, named) {
		if err, ok := errors.AsType[*fault.Error](cloud.CheckName(mount.Cloud.Name, e.ownClouds()...)); ok {
			problems = append(problems, fault.Problem{Field: "cloudName", Cause: err.Cause, Fix: err.Fix})
		}
	}
	if len(problems) == 0 {
		return nil
	}
	return fault.Invalid(problems...)
}

// ownClouds are the names of clouds that the operator defined with --cloud-file NAME=PATH.
func (e *examination) ownClouds() []string {
	var names []string
	for _, pair := range strings.Split(e.flag("cloud-file"), ",") {
		if name, _, ok := strings.Cut(pair, "="); ok {
			names = append(names, name)
		}
	}
	return names
}

// overrides are the parameters that the pod sets.
func (e *examination) overrides() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(e.volume.Attributes)), func(name string) bool { return name == "secretProviderClass" })
}
