package entra

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"akv-csi-provider/provider/transport"

	lru "github.com/hashicorp/golang-lru/v2"
)

// Annotations are what a ServiceAccount says about its identity, "" where it says
// nothing. Whoever may edit the account wrote them: they are bounded, not checked.
type Annotations struct {
	ClientID string
	TenantID string
}

// The annotations of Microsoft Entra Workload ID.
const (
	ClientIDAnnotation = "azure.workload.identity/client-id"
	TenantIDAnnotation = "azure.workload.identity/tenant-id"
)

// AccountsConfig says how to reach the apiserver.
type AccountsConfig struct {
	// Host is the apiserver's https URL; "" if there is none, which is an error only
	// when it is needed.
	Host      string
	TokenFile string // the provider's own service-account token; read with every request
	CAFile    string // the cluster's CA certificates as PEM
	UserAgent string // of the requests
	// Measure, if not nil, goes around the connections.
	Measure func(http.RoundTripper) http.RoundTripper
	Now     func() time.Time // nil means time.Now
}

// Accounts reads annotations of ServiceAccounts, one account per request and only
// when asked, and keeps them for a minute. It is safe for concurrent use.
type Accounts struct {
	api   apiserver // without a URL: none
	now   func() time.Time
	cache *lru.Cache[string, account]
	looks flight[Annotations]
}

type account struct {
	Annotations
	until time.Time
}

const (
	maxAccounts = 4096
	// keepAnnotated is how long an answer is good: a second volume or replica of the
	// same account within it costs no request.
	keepAnnotated = time.Minute
	// keepBare is for an account without annotations: who has just been told that
	// they are missing adds them, and should not wait.
	keepBare = 2 * time.Second
)

// NewAccounts checks the settings. It sends and reads nothing.
func NewAccounts(c AccountsConfig) (*Accounts, error) {
	cache, err := lru.New[string, account](maxAccounts)
	if err != nil {
		return nil, err
	}
	a := &Accounts{now: c.Now, cache: cache}
	if a.now == nil {
		a.now = time.Now
	}
	if c.Host == "" {
		return a, nil
	}
	if a.api.url, err = clusterURL(c.Host); err != nil {
		return nil, fmt.Errorf("apiserver URL: %w", err)
	}
	if c.CAFile == "" || c.TokenFile == "" {
		return nil, errors.New("apiserver: no file named with its CA certificates or with the provider's token")
	}
	a.api.pool, a.api.tokenFile, a.api.userAgent = clusterPool{caFile: c.CAFile, conns: 4, measure: c.Measure}, c.TokenFile, c.UserAgent
	return a, nil
}

// Lookup returns the annotations of one ServiceAccount. Concurrent callers share one
// request, and a caller that gives up does not fail the others. Its error is an
// *Error, a *transport.Error, or the context's own.
func (a *Accounts) Lookup(ctx context.Context, namespace, name string) (Annotations, error) {
	if a == nil || a.api.url == nil {
		return Annotations{}, &Error{reason: ReasonServiceAccountLookupForbidden,
			cause: "the provider does not run in a cluster, so it cannot read the annotations of ServiceAccounts",
			fix:   "set clientID in the class"}
	}
	if !isKubernetesName(namespace) || !isKubernetesName(name) {
		return Annotations{}, &Error{reason: ReasonServiceAccountLookupForbidden,
			cause: "the mount does not say which ServiceAccount the pod has",
			fix:   "let the CSIDriver object ask kubelet for it (spec.podInfoOnMount: true), or set clientID in the class"}
	}
	key := namespace + "/" + name
	if kept, ok := a.cache.Get(key); ok && a.now().Before(kept.until) {
		return kept.Annotations, nil
	}
	found, err := a.looks.do(ctx, key, func(ctx context.Context) (Annotations, error) {
		now := a.now() // what is read may be changed from here on
		found, err := a.read(ctx, namespace, name)
		if err != nil {
			a.cache.Remove(key)
			return Annotations{}, err
		}
		keep := keepAnnotated
		if found == (Annotations{}) {
			keep = keepBare
		}
		a.cache.Add(key, account{found, now.Add(keep)})
		return found, nil
	})
	if errors.Is(ctx.Err(), context.DeadlineExceeded) && err != nil {
		return Annotations{}, notAsked(transport.Timeout(a.api.url.Hostname(), transport.PhaseSignIn), key)
	}
	return found, err
}

// read asks the apiserver for the account's metadata: not for its list of secrets.
func (a *Accounts) read(ctx context.Context, namespace, name string) (Annotations, error) {
	account := namespace + "/" + name
	code, body, err := a.api.object(ctx, "/api/v1/namespaces/"+namespace+"/serviceaccounts/"+name)
	switch {
	case err != nil:
		return Annotations{}, a.api.explain(err, account)
	case code != http.StatusOK:
		return Annotations{}, lookUpRefused(code, account)
	}
	found, ok := parseAccount(body, name)
	if !ok {
		return Annotations{}, a.api.noAccount()
	}
	return Annotations{
		ClientID: oneLine(strings.TrimSpace(found.Metadata.Annotations[ClientIDAnnotation])),
		TenantID: oneLine(strings.TrimSpace(found.Metadata.Annotations[TenantIDAnnotation])),
	}, nil
}

// isKubernetesName keeps names that would lead to another path out of the URL.
func isKubernetesName(name string) bool {
	return name != "" && len(name) <= 253 && name[0] != '.' && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789.-") == "" &&
		!strings.Contains(name, "..")
}
