package kube

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"akv-csi-provider/provider/coalesce"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/transport"
)

// Annotations are the identity that a ServiceAccount names; "" where it names none. Anyone who
// may edit the account can set them: they are printable and bounded, and otherwise unchecked.
type Annotations struct {
	ClientID string
	TenantID string
	// NearClientID is what may be meant by an ID that is not there, such as
	// `annotation "azure.workload.identity/client_id"`; "" for nothing, likewise NearTenantID.
	NearClientID string
	NearTenantID string
}

// The annotations of Microsoft Entra Workload ID.
const (
	ClientIDAnnotation = "azure.workload.identity/client-id"
	TenantIDAnnotation = "azure.workload.identity/tenant-id"
)

// AccountsConfig says how to reach the API server.
type AccountsConfig struct {
	Host      string // the https URL of the API server
	TokenFile string // the provider's own service-account token; read with every request
	CAFile    string // the cluster's CA certificates as PEM; read with every request
	UserAgent string
	// Measure, if not nil, wraps the connections.
	Measure func(http.RoundTripper) http.RoundTripper
	Now     func() time.Time // nil is time.Now
}

// Accounts reads annotations of ServiceAccounts and caches them for a minute. Each request is
// for one account that a mount needs: the provider lists and watches nothing. It is safe for
// concurrent use.
type Accounts struct {
	url       *url.URL
	tokenFile string
	pool      *Pool
	group     *coalesce.Group[accountName, Annotations]
}

type accountName struct{ namespace, name string }

// String implements [fmt.Stringer].
func (a accountName) String() string { return a.namespace + "/" + a.name }

const (
	// annotatedLife is for how long annotations are cached: a second volume or replica of the
	// same account within it costs no request.
	annotatedLife = time.Minute
	// bareLife is for an account without the annotations: a user who adds the missing ones should
	// not wait.
	bareLife = 2 * time.Second

	maxAccounts   = 4096
	maxConns      = 4
	lookupTimeout = 10 * time.Second
)

// NewAccounts checks the settings. It sends and reads nothing.
func NewAccounts(c AccountsConfig) (*Accounts, error) {
	u, err := ParseURL(c.Host)
	if err != nil {
		return nil, fmt.Errorf("apiserver URL: %w", err)
	}
	if c.CAFile == "" || c.TokenFile == "" {
		return nil, errors.New("apiserver: no file named with its CA certificates or with the provider's token")
	}
	return &Accounts{
		url: u, tokenFile: c.TokenFile,
		pool: NewPool(PoolConfig{CAFile: c.CAFile, MaxConns: maxConns, UserAgent: c.UserAgent, Measure: c.Measure}),
		group: coalesce.New[accountName](coalesce.Config[Annotations]{
			Timeout: lookupTimeout, Budget: coalesce.NewBudget(maxAccounts), Now: c.Now,
			Evict: func(error) bool { return true },
		}),
	}, nil
}

// Lookup returns the annotations of one ServiceAccount. Concurrent callers share one request,
// and a caller that gives up does not fail the others. The error is a *fault.Error, or the
// context's own when the caller gave up.
func (a *Accounts) Lookup(ctx context.Context, namespace, name string) (Annotations, error) {
	if !isKubernetesName(namespace) || !isKubernetesName(name) {
		return Annotations{}, &fault.Error{Reason: fault.ServiceAccountLookupForbidden,
			Cause: "the mount request does not name the pod's ServiceAccount",
			Fix:   notInClass + "; or, cluster operator: set podInfoOnMount: true on the CSIDriver"}
	}
	account := accountName{namespace, name}
	found, _, err := a.group.Do(ctx, account, coalesce.Freshness{}, func(ctx context.Context, call *coalesce.Call) (Annotations, coalesce.Life, error) {
		call.Sent()
		found, err := a.read(ctx, account)
		life := annotatedLife
		if found.ClientID == "" || found.TenantID == "" && found.NearTenantID != "" {
			life = bareLife
		}
		return found, coalesce.Life{Until: call.SentAt().Add(life)}, err
	})
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = unanswered(transport.Timeout(a.url.Hostname(), transport.PhaseSignIn), account)
	}
	return found, err
}

// read requests one account's annotations.
func (a *Accounts) read(ctx context.Context, account accountName) (Annotations, error) {
	body, err := a.get(ctx, account)
	if err != nil {
		return Annotations{}, err
	}
	meta, ok := parseAccount(body, account)
	if !ok {
		return Annotations{}, &fault.Error{Reason: fault.ServiceUnavailable,
			Cause: fmt.Sprintf("%s returned a response that is not a ServiceAccount", a.url.Hostname()),
			Fix:   "cluster operator: check the address of the Kubernetes API server"}
	}
	return meta.identity(), nil
}

// isKubernetesName reports whether a name is safe in the path of a URL.
func isKubernetesName(name string) bool {
	return name != "" && len(name) <= 253 && name[0] != '.' && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789.-") == "" &&
		!strings.Contains(name, "..")
}
