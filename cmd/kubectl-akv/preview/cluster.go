package preview

import (
	"context"
	"fmt"
	"slices"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"akv-csi-provider/cmd/kubectl-akv/cluster"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/kube"
)

const (
	// tokenSeconds is the shortest lifetime of a token that the API server accepts.
	tokenSeconds = 600
	// notRequested stands for a token that kubelet would send and no sign-in would use.
	notRequested = "not requested"
)

// tokens are what kubelet would send for a pod with the ServiceAccount: a token for each audience
// that the CSIDriver object names. Only those are requested that the provider may use. Notes say
// what could not be checked.
func tokens(ctx context.Context, client kubernetes.Interface, namespace, account string, usable []string) (byAudience map[string]string, notes []string, err error) {
	audiences := usable[:1]
	driver, err := client.StorageV1().CSIDrivers().Get(ctx, cluster.DriverName, metav1.GetOptions{})
	switch {
	case err == nil:
		audiences = nil
		for _, r := range driver.Spec.TokenRequests {
			audiences = append(audiences, r.Audience)
		}
	case apierrors.IsNotFound(err):
		notes = append(notes, "the cluster has no CSIDriver "+cluster.DriverName+": install the Secrets Store CSI driver before pods use the class")
	case apierrors.IsForbidden(err):
		notes = append(notes, fmt.Sprintf("you are not allowed to read CSIDriver %s: whether it requests tokens for %s was not checked", cluster.DriverName, usable[0]))
	default:
		return nil, nil, fmt.Errorf("CSIDriver %s: %w", cluster.DriverName, err)
	}
	byAudience = make(map[string]string)
	for _, audience := range audiences {
		byAudience[audience] = notRequested
	}
	for _, audience := range usable { // in the order in which the provider prefers them
		if slices.Contains(audiences, audience) {
			byAudience[audience], err = token(ctx, client, namespace, account, audience)
			return byAudience, notes, err
		}
	}
	return byAudience, notes, nil
}

// token requests a token for the ServiceAccount, as kubelet does.
func token(ctx context.Context, client kubernetes.Interface, namespace, account, audience string) (string, error) {
	seconds := int64(tokenSeconds)
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: []string{audience}, ExpirationSeconds: &seconds}}
	got, err := client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, account, request, metav1.CreateOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return "", fmt.Errorf("there is no ServiceAccount %s/%s", namespace, account)
	case apierrors.IsForbidden(err):
		return "", fmt.Errorf("you may not request a token for ServiceAccount %s/%s; ask for the verb create on serviceaccounts/token, or use --as-me: %w", namespace, account, err)
	case err != nil:
		return "", fmt.Errorf("token for ServiceAccount %s/%s: %w", namespace, account, err)
	}
	return got.Status.Token, nil
}

// accounts reads ServiceAccounts with the rights of the user.
type accounts struct{ client kubernetes.Interface }

// Lookup implements provider.Accounts.
func (a accounts) Lookup(ctx context.Context, namespace, name string) (kube.Annotations, error) {
	account, err := a.client.CoreV1().ServiceAccounts(namespace).Get(ctx, name, metav1.GetOptions{})
	switch {
	case err == nil:
		return kube.NewAnnotations(account.Labels, account.Annotations), nil
	case apierrors.IsForbidden(err):
		return kube.Annotations{}, &fault.Error{Reason: fault.ServiceAccountLookupForbidden, Err: err,
			Cause: fmt.Sprintf("you are not allowed to get ServiceAccount %s/%s, of which the annotations name the identity", namespace, name),
			Fix:   "ask for the verb get on serviceaccounts; this is about your rights and not about those of the provider"}
	case ctx.Err() != nil:
		return kube.Annotations{}, ctx.Err()
	}
	return kube.Annotations{}, &fault.Error{Reason: fault.ServiceUnavailable, Err: err,
		Cause: fmt.Sprintf("ServiceAccount %s/%s: %v", namespace, name, err), Fix: "check your connection to the cluster"}
}

// secret reads the Secret of a volume's nodePublishSecretRef.
func secret(ctx context.Context, client kubernetes.Interface, namespace, name string) (map[string]string, error) {
	found, err := client.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("secret %s/%s: %w", namespace, name, err)
	}
	data := make(map[string]string, len(found.Data))
	for key, value := range found.Data {
		data[key] = string(value)
	}
	return data, nil
}

func listAccounts(ctx context.Context, client kubernetes.Interface, namespace string) (names []string) {
	list, err := client.CoreV1().ServiceAccounts(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil // there is nothing to complete
	}
	for _, account := range list.Items {
		names = append(names, account.Name)
	}
	return names
}
