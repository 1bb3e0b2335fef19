package keyvault

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"akv-csi-provider/provider/gate"
	"akv-csi-provider/provider/transport"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// Resource asks a vault for what tokens must be made, as its challenge tells
// ("Authentication, requests and responses" of Key Vault's REST API). It is for
// clouds whose resource is known from a file only, which the vault corrects; a vault
// that names none, or one that is not its own, leaves it at fallback. The answer is
// kept. The request carries no credential. Its error is an *Error or the context's own.
func (r *Reader) Resource(ctx context.Context, host, fallback string) (string, error) {
	v, err := r.vault(host)
	if err != nil {
		return "", err
	}
	v.mu.Lock()
	known := v.resource
	v.mu.Unlock()
	if known != "" {
		return known, nil
	}
	challenge := ""
	err = v.gate.Do(ctx, func() bool { return true }, func(ctx context.Context) (err error) {
		challenge, err = r.challenge(ctx, host)
		return err
	}, judge)
	if err != nil {
		return "", unreachable(ctx, err, host)
	}
	if known = resourceOf(challenge, host); known == "" {
		return fallback, nil // which is not the vault's word, and may be another's for the next caller
	}
	v.mu.Lock()
	v.resource = known
	v.mu.Unlock()
	return known, nil
}

// challenge sends a request without a token, which a vault refuses before anything else.
func (r *Reader) challenge(ctx context.Context, host string) (string, error) {
	pipeline := runtime.NewPipeline("akv-csi-provider", "", runtime.PipelineOptions{}, &policy.ClientOptions{
		Transport: r.cfg.Transport, Retry: policy.RetryOptions{MaxRetries: -1}})
	req, err := runtime.NewRequest(ctx, http.MethodGet, "https://"+host+"/secrets?api-version=7.4")
	if err != nil {
		return "", fmt.Errorf("ask %s: %w", host, err)
	}
	resp, err := pipeline.Do(req)
	if err != nil {
		return "", err
	}
	defer runtime.Drain(resp)
	switch {
	case resp.StatusCode == http.StatusUnauthorized:
		return resp.Header.Get("WWW-Authenticate"), nil
	case resp.StatusCode == http.StatusTooManyRequests, resp.StatusCode >= http.StatusInternalServerError:
		return "", &refusal{status: resp.StatusCode, rest: gate.RetryAfter(resp.Header)}
	}
	return "", nil
}

// unreachable explains that a vault could not be asked anything.
func unreachable(ctx context.Context, err error, host string) error {
	var network *transport.Error
	var refused *refusal
	switch {
	case errors.As(err, &refused):
		return refusalError(refused, Object{Host: host}, Caller{}, getting)
	case errors.As(err, &network):
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	default:
		network = transport.Timeout(host, transport.PhaseRead)
	}
	return networkError(network, Object{Host: host})
}

var challengeValue = regexp.MustCompile(`(scope|resource)="?([^", ]+)`)

// resourceOf reads the resource from a challenge; "" if there is none, or none above
// the vault's host: a vault may not ask for tokens of somebody else's (see "vault-uri"
// of the Azure SDK's blog, which has this rule).
func resourceOf(challenge, host string) string {
	values := map[string]string{}
	for _, m := range challengeValue.FindAllStringSubmatch(challenge, -1) {
		values[m[1]] = m[2]
	}
	text := strings.TrimSuffix(values["scope"], "/.default")
	if text == "" {
		text = values["resource"]
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.User != nil || u.Hostname() == "" ||
		!strings.HasSuffix(strings.ToLower(host), "."+strings.ToLower(u.Hostname())) {
		return ""
	}
	return strings.TrimSuffix(text, "/")
}
