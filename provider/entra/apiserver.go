package entra

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"akv-csi-provider/provider/transport"
)

// apiserver sends requests to the cluster's apiserver as the provider itself.
type apiserver struct {
	url       *url.URL
	pool      clusterPool
	tokenFile string
	userAgent string
}

// object asks for the metadata of one object and nothing else of it, as client-go's
// metadata client does ("Receiving resources as Tables or PartialObjectMetadata" of the
// Kubernetes API concepts), and returns the answer's status and body. That client would
// be 110 more packages and five megabytes for this one request, and most of what it
// adds would have to be turned off: tries a second or more apart, a logger, HTTPS_PROXY.
func (a *apiserver) object(ctx context.Context, path string) (status int, body []byte, err error) {
	pool, err := a.pool.get("")
	if err != nil {
		return 0, nil, err
	}
	token, err := readBounded(a.tokenFile, 64<<10) // kubelet writes it anew every hour or so
	bearer := strings.TrimSpace(string(token))
	if err != nil || bearer == "" {
		return 0, nil, &Error{reason: ReasonServiceAccountLookupForbidden,
			cause: fmt.Sprintf("the provider has no service-account token of its own: %q cannot be read", a.tokenFile),
			fix:   "run it with automountServiceAccountToken, or set clientID in the class"}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.url.JoinPath(path).String(), nil)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Accept", "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json")
	req.Header.Set("Authorization", "Bearer "+bearer)
	resp, err := transport.New(a.pool.measured(pool), a.userAgent).For(transport.PhaseSignIn).Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err = io.ReadAll(resp.Body) // which transport bounds
	return resp.StatusCode, body, err
}

// metadata is the part of an object that is asked for.
type metadata struct {
	Kind     string `json:"kind"`
	Metadata struct {
		Name        string            `json:"name"`
		Annotations map[string]string `json:"annotations"`
	} `json:"metadata"`
}

// parseAccount reads an answer about a ServiceAccount.
func parseAccount(body []byte, name string) (metadata, bool) {
	var m metadata
	ok := json.Unmarshal(body, &m) == nil && (m.Kind == "PartialObjectMetadata" || m.Kind == "ServiceAccount") && m.Metadata.Name == name
	return m, ok
}

// explain says why there is no answer. The apiserver's text is never used: admission
// plugins and proxies put into it what they like.
func (a *apiserver) explain(err error, account string) error {
	if network, ok := errors.AsType[*transport.Error](err); ok {
		return notAsked(network, account)
	}
	return err
}

// noAccount is the error of an answer that is about something else.
func (a *apiserver) noAccount() error {
	return &Error{reason: ReasonServiceUnavailable,
		cause: fmt.Sprintf("%s sent something that is no ServiceAccount", a.url.Hostname()),
		fix:   "check what answers at the address of the Kubernetes API server"}
}

// lookUpRefused explains the status of an answer.
func lookUpRefused(code int, account string) error {
	e := &Error{reason: ReasonServiceAccountLookupForbidden}
	switch code {
	case http.StatusForbidden:
		e.cause = fmt.Sprintf("the provider may not read the annotations of ServiceAccount %s", account)
		e.fix = `add to its ClusterRole the rule apiGroups: [""], resources: ["serviceaccounts"], verbs: ["get"]; or set clientID in the class`
	case http.StatusUnauthorized:
		e.cause = fmt.Sprintf("the Kubernetes API server does not take the provider's own token, so the annotations of ServiceAccount %s cannot be read", account)
		e.fix = "restart the provider if its ServiceAccount was made anew; or set clientID in the class"
	case http.StatusNotFound:
		// The pod's account was deleted, or this is not the pod's cluster. Nothing is
		// known then about its annotations; "it has none" would send people looking in
		// the wrong place.
		e.cause = fmt.Sprintf("there is no ServiceAccount %s", account)
		e.fix = "restore it, or set clientID in the class"
	default:
		e.reason = ReasonServiceUnavailable
		e.cause = fmt.Sprintf("the Kubernetes API server answers %s to a look at ServiceAccount %s", status(code), account)
		e.fix = "it is asked again with the next mount; or set clientID in the class, which needs no look-up"
	}
	return e
}

// notAsked tells what a failure of the network was about.
func notAsked(network *transport.Error, account string) error {
	e := *network
	e.Cause = fmt.Sprintf("the Kubernetes API server, asked for the annotations of ServiceAccount %s: %s", account, e.Cause)
	e.Fix = "check the provider's way to it, or set clientID in the class, which needs no look-up"
	return &e
}
