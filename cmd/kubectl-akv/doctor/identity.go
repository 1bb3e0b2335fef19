package doctor

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"akv-csi-provider/cmd/kubectl-akv/cluster"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/kube"
	"akv-csi-provider/provider/request"
)

func (e *examination) account() string { return cmp.Or(e.pod.Spec.ServiceAccountName, "default") }

// identity checks that something names the identity that the pod signs in with: the class, the
// Secret, or the ServiceAccount.
func (e *examination) identity() *Check {
	const name = "identity"
	if e.class.err != nil {
		return notReached(name, "the class was not read")
	}
	id := e.class.mount.Identity
	switch {
	case id.UseVMManagedIdentity:
		return fine(name, e.class.credential)
	case id.ClientID != "":
		return fine(name, "the class names client ID "+id.ClientID)
	case id.UseAzureTokenProxy:
		return problem(name, "useAzureTokenProxy is set, but clientID is not", "set clientID in the class to that of the bound managed identity")
	case e.volume.Secret != "":
		return fine(name, e.class.credential)
	}
	account := e.account()
	object, err := e.reader.Metadata.Resource(cluster.Accounts).Namespace(e.pod.Namespace).Get(e.ctx, account, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return problem(name, fmt.Sprintf("ServiceAccount %s does not exist in namespace %s", account, e.pod.Namespace), "create it")
	case err != nil:
		return unread(name, "ServiceAccount "+account, err)
	}
	found := kube.NewAnnotations(object.Labels, object.Annotations)
	e.class.mount.Identity.ClientID = found.ClientID // for the checks that follow
	annotate := fmt.Sprintf("kubectl -n %s annotate serviceaccount %s --overwrite %s=CLIENT_ID", e.pod.Namespace, account, kube.ClientIDAnnotation)
	noIdentity := func(text string) *Check {
		c := problem(name, text, "annotate the ServiceAccount with the client ID of the managed identity, or set clientID in the class", annotate)
		c.Reasons = []string{string(fault.NoIdentity)}
		return c
	}
	switch {
	case found.NearClientID != "":
		return noIdentity(fmt.Sprintf("no identity is configured: ServiceAccount %s has the %s, which is ignored", account, found.NearClientID))
	case found.ClientID == "":
		return noIdentity(fmt.Sprintf("no identity is configured: ServiceAccount %s has no annotation %s, and the class no clientID", account, kube.ClientIDAnnotation))
	case !request.IsClientID(found.ClientID):
		return noIdentity(fmt.Sprintf("annotation %s of ServiceAccount %s is not a client ID: %q", kube.ClientIDAnnotation, account, found.ClientID))
	case id.TenantID == "" && found.TenantID == "" && e.provider != nil && e.flag("tenant-id") == "":
		return problem(name, "no tenant is configured: neither tenantID in the class nor annotation "+kube.TenantIDAnnotation, "set tenantID in the class")
	}
	return fine(name, fmt.Sprintf("ServiceAccount %s names client ID %s", account, found.ClientID))
}

// secret checks that the Secret of the node-publish credential is there. Its data is not requested.
func (e *examination) secret() *Check {
	const name = "secret"
	_, err := e.reader.Metadata.Resource(cluster.Secrets).Namespace(e.pod.Namespace).Get(e.ctx, e.volume.Secret, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return problem(name, fmt.Sprintf("Secret %s, which nodePublishSecretRef names, does not exist in namespace %s", e.volume.Secret, e.pod.Namespace),
			"create it with clientid and clientsecret, or remove nodePublishSecretRef from the volume",
			fmt.Sprintf("kubectl -n %s create secret generic %s --from-literal=clientid=CLIENT_ID --from-literal=clientsecret=CLIENT_SECRET", e.pod.Namespace, e.volume.Secret))
	case err != nil:
		return unread(name, "Secret "+e.volume.Secret, err)
	}
	return fine(name, "Secret "+e.volume.Secret+" exists; its content was not read")
}

var issuerInCommand = regexp.MustCompile(`--issuer (\S+)`)

// federation says which federated credential Entra must have for the pod. Entra is not called, so
// that it is missing is known from the provider alone.
func (e *examination) federation() *Check {
	const name = "federation"
	id := e.class.mount.Identity
	switch {
	case e.class.err != nil:
		return notReached(name, "the class was not read")
	case !e.class.federated:
		return fine(name, "not needed: "+e.class.credential)
	case id.UseAzureTokenProxy:
		return notChecked(name, "AKS must bind the managed identity to ServiceAccount "+e.account())
	}
	issuer, err := e.reader.Issuer(e.ctx)
	missing := e.failure != nil && slices.Contains(e.failure.Reasons, string(fault.FederatedCredentialMissing)) && !e.started()
	if err != nil || issuer == "" {
		issuer = "ISSUER"
		if missing {
			if m := issuerInCommand.FindStringSubmatch(e.failure.Provider); m != nil {
				issuer = m[1]
			}
		}
	}
	subject := fmt.Sprintf("system:serviceaccount:%s:%s", e.pod.Namespace, e.account())
	audience := e.class.audiences(e.flag("token-audience"))[0]
	expected := fmt.Sprintf("issuer %s, subject %s, audience %s", issuer, subject, audience)
	switch {
	case missing:
		check := problem(name, cause(e.failure.Provider)+"; it needs "+expected,
			fmt.Sprintf("create it; IDENTITY in resource group GROUP is the managed identity with client ID %s:", cmp.Or(id.ClientID, "CLIENT_ID")),
			fmt.Sprintf("az identity federated-credential create --name %s-%s --identity-name IDENTITY --resource-group GROUP --issuer %s --subject %s --audiences %s",
				e.pod.Namespace, e.account(), issuer, subject, audience))
		check.Reasons = []string{string(fault.FederatedCredentialMissing)}
		return check
	case e.mounted != nil:
		return fine(name, "the identity trusted "+expected)
	}
	return notChecked(name, "Entra is not asked; the identity must trust "+expected)
}
