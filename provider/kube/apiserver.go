package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/transport"
)

// notInClass is what makes the annotations of a ServiceAccount unnecessary.
const notInClass = "set clientID in the SecretProviderClass"

// maxToken bounds the provider's own token.
const maxToken = 64 << 10

// ReadToken reads a service-account token from a file; kubelet replaces it about every hour. It
// returns "" for an empty file, and with the error of one that cannot be read.
func ReadToken(file string) (string, error) {
	token, err := readFile(file, maxToken)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(token)), nil
}

// get requests the metadata of a ServiceAccount and nothing else of it, as client-go's metadata
// client does ("Receiving resources as Tables or PartialObjectMetadata" of the Kubernetes API
// concepts). client-go would be 110 more packages and five megabytes for this one request, and
// most of what it adds would have to be turned off: retries a second or more apart, a logger,
// HTTPS_PROXY.
func (a *Accounts) get(ctx context.Context, account accountName) (body []byte, err error) {
	client, err := a.pool.Client("")
	if err != nil {
		return nil, err
	}
	bearer, err := ReadToken(a.tokenFile)
	if bearer == "" {
		return nil, &fault.Error{Reason: fault.ServiceAccountLookupForbidden, Err: err,
			Cause: fmt.Sprintf("the provider has no service account token: cannot read %q", a.tokenFile),
			Fix:   notInClass + "; or, cluster operator: set automountServiceAccountToken: true for the provider"}
	}
	path := "/api/v1/namespaces/" + account.namespace + "/serviceaccounts/" + account.name
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.url.JoinPath(path).String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json")
	req.Header.Set("Authorization", "Bearer "+bearer)
	resp, err := client.For(transport.PhaseSignIn).Do(req)
	if err != nil {
		return nil, unanswered(err, account)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err = io.ReadAll(resp.Body) // which transport bounds
	switch {
	case err != nil:
		return nil, unanswered(err, account)
	case resp.StatusCode != http.StatusOK:
		return nil, refused(resp.StatusCode, account)
	}
	return body, nil
}

// refused explains the status of a response. The body is never used: it can be an admission
// plugin's or a proxy's.
func refused(code int, account accountName) error {
	e := &fault.Error{Reason: fault.ServiceAccountLookupForbidden}
	switch code {
	case http.StatusForbidden:
		e.Cause = fmt.Sprintf("the provider is not allowed to read the annotations of ServiceAccount %s", account)
		e.Fix = notInClass + "; or, cluster operator: allow get on serviceaccounts in the provider's ClusterRole"
	case http.StatusUnauthorized:
		e.Cause = fmt.Sprintf("the Kubernetes API server rejected the provider's own token for ServiceAccount %s", account)
		e.Fix = notInClass + "; or, cluster operator: restart the provider if its ServiceAccount was recreated"
	case http.StatusNotFound:
		// The pod's account was deleted, or this is not the pod's cluster. Its annotations are
		// unknown then; "it has none" would send people looking in the wrong place.
		e.Cause = fmt.Sprintf("ServiceAccount %s does not exist", account)
		e.Fix = "create it, or " + notInClass
	default:
		e.Reason = fault.ServiceUnavailable
		e.Cause = fmt.Sprintf("the Kubernetes API server returned %s for ServiceAccount %s", transport.Status(code), account)
		e.Fix = "kubelet retries; clientID in the SecretProviderClass avoids this request"
	}
	return e
}

// unanswered adds the purpose of the request to an error of the network.
func unanswered(err error, account accountName) error {
	network, ok := errors.AsType[*fault.Error](err)
	if !ok {
		return err // all callers gave up
	}
	e := *network
	e.Cause = fmt.Sprintf("cannot read ServiceAccount %s from the Kubernetes API server: %s", account, e.Cause)
	e.Fix = notInClass + ", which avoids this request; or, cluster operator: check the provider's route to the API server"
	return &e
}
