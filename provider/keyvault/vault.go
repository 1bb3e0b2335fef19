package keyvault

import (
	"errors"
	"fmt"
	"net/http"

	"akv-csi-provider/provider/throttle"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azcertificates"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
)

// vault is what all mounts of one vault share: clients that send through its throttle. It
// never contains a token.
type vault struct {
	secrets      *azsecrets.Client
	keys         *azkeys.Client
	certificates *azcertificates.Client
	anonymous    runtime.Pipeline // for requests without a token; see challenge
}

// vault returns what is shared for the host, building it when needed.
func (r *Reader) vault(host string) (*vault, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if v, ok := r.vaults.Get(host); ok {
		return v, nil
	}
	t, ok := r.throttles.Get(host)
	if !ok {
		cfg := r.cfg.Throttle
		cfg.Service.Host = host
		t = throttle.New(cfg)
		r.throttles.Add(host, t)
	}
	v, err := r.newVault(host, t)
	if err != nil {
		return nil, fmt.Errorf("client for %s: %w", host, err)
	}
	r.vaults.Add(host, v)
	return v, nil
}

// newVault makes the clients of a vault. A request passes the throttle, the SDK's own policies,
// apiVersion, authorize, and then the transport.
func (r *Reader) newVault(host string, t *throttle.Throttle) (*vault, error) {
	options := azcore.ClientOptions{
		Transport:       r.cfg.Transport,
		TracingProvider: r.cfg.Tracing,
		Retry:           policy.RetryOptions{MaxRetries: -1}, // the throttle retries
		PerCallPolicies: []policy.Policy{t},
	}
	v := &vault{anonymous: runtime.NewPipeline("akv-csi-provider", "", runtime.PipelineOptions{}, &options)}
	options.PerRetryPolicies = []policy.Policy{new(apiVersion), authorize{host: host}}
	url := "https://" + host
	var err error
	if v.secrets, err = azsecrets.NewClient(url, refuseToSignIn{}, &azsecrets.ClientOptions{ClientOptions: options}); err != nil {
		return nil, err
	}
	if v.keys, err = azkeys.NewClient(url, refuseToSignIn{}, &azkeys.ClientOptions{ClientOptions: options}); err != nil {
		return nil, err
	}
	v.certificates, err = azcertificates.NewClient(url, refuseToSignIn{}, &azcertificates.ClientOptions{ClientOptions: options})
	return v, err
}

// classify says what an attempt shows about a vault. One that does not know the key that signed
// a token cannot serve anybody: it may not have read Entra's newest keys yet, and accepts the token
// seconds later. If it stays so, it is an incident of the service.
func classify(resp *http.Response, err error) throttle.Result {
	switch rejected, ok := errors.AsType[*unauthorized](err); {
	case ok && rejected.unknownKey:
		return throttle.Result{Outcome: throttle.Unavailable}
	case ok:
		return throttle.Result{Outcome: throttle.OK}
	}
	return throttle.Classify(resp, err)
}
