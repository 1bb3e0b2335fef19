package entra

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"akv-csi-provider/provider/transport"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// apiserver sends requests to the cluster's apiserver as the provider itself.
type apiserver struct {
	pool      clusterPool
	tokenFile string
	userAgent string
}

func (a *apiserver) roundTrip(req *http.Request) (*http.Response, error) {
	pool, err := a.pool.get("")
	if err != nil {
		return nil, err
	}
	token, err := readBounded(a.tokenFile, 64<<10) // kubelet writes it anew every hour or so
	bearer := strings.TrimSpace(string(token))
	if err != nil || bearer == "" {
		return nil, &Error{reason: ReasonServiceAccountLookupForbidden,
			cause: fmt.Sprintf("the provider has no service-account token of its own: %q cannot be read", a.tokenFile),
			fix:   "run it with automountServiceAccountToken, or set clientID in the class"}
	}
	req = req.Clone(req.Context())
	req.Header.Set("Authorization", "Bearer "+bearer)
	resp, err := transport.New(pool, a.userAgent).For(transport.PhaseSignIn).Do(req)
	if err != nil {
		return nil, errNoAnswer
	}
	resp.Header.Del("Retry-After")
	return resp, nil
}

// errNoAnswer and the missing Retry-After keep client-go from trying again, up to ten
// times a second or more apart; the next mount does. The Record knows the error.
var errNoAnswer = errors.New("no answer")

// explain turns an error of client-go into ours. The apiserver's text is never used:
// admission plugins and proxies put into it what they like.
func (a *Accounts) explain(err error, record *transport.Record, account string) error {
	var (
		own     *Error
		network *transport.Error
		refusal apierrors.APIStatus
	)
	switch {
	case errors.As(err, &own):
		return own
	case errors.As(record.Err, &network):
		return notAsked(network, account)
	case record.Err != nil:
		return record.Err
	case !errors.As(err, &refusal):
		return &Error{reason: ReasonServiceUnavailable,
			cause: fmt.Sprintf("%s sent something that is no ServiceAccount", a.url.Hostname()),
			fix:   "check what answers at the address of the Kubernetes API server"}
	}
	e := &Error{reason: ReasonServiceAccountLookupForbidden}
	switch code := int(refusal.Status().Code); code {
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
