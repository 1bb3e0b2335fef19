package keyvault

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"akv-csi-provider/provider/coalesce"
	"akv-csi-provider/provider/throttle"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// resourceLife is how long the resource of a vault is cached: it never changes.
const resourceLife = 365 * 24 * time.Hour

// Resource returns the resource that a vault's tokens must be issued for, as its challenge says
// ("Authentication, requests and responses" of Key Vault's REST API). It is for clouds whose
// resource is known only from a file, which the vault may correct. If the vault names none, or
// one that is not its own, Resource returns fallback. The answer is cached. The request carries no
// credential. The error is a *fault.Error or the context's own.
func (r *Reader) Resource(ctx context.Context, host, fallback string) (string, error) {
	v, err := r.vault(host)
	if err != nil {
		return "", err
	}
	q := question{Object: Object{Host: host}}
	resource, _, err := r.resources.Do(ctx, host, Freshness{Urgent: true}, func(ctx context.Context, call *coalesce.Call) (string, coalesce.Life, error) {
		challenge, err := v.challenge(throttle.WithTrace(ctx, call, q.explain), host)
		if err != nil {
			return "", coalesce.Life{}, q.explain(err)
		}
		resource := resourceOf(challenge, host)
		if resource == "" { // the fallback is the caller's, so it is not cached
			return "", coalesce.Life{}, nil
		}
		return resource, coalesce.Life{Until: r.cfg.Now().Add(resourceLife)}, nil
	})
	switch {
	case err != nil:
		return "", asTimeout(err, q.Object)
	case resource == "":
		return fallback, nil
	}
	return resource, nil
}

// challenge sends a request without a token, which a vault refuses before anything else.
func (v *vault) challenge(ctx context.Context, host string) (string, error) {
	req, err := runtime.NewRequest(ctx, http.MethodGet, "https://"+host+"/secrets?api-version=7.1")
	if err != nil {
		return "", bug{fmt.Errorf("ask %s: %w", host, err)}
	}
	resp, err := v.anonymous.Do(req)
	if err != nil {
		return "", err
	}
	switch {
	case resp.StatusCode == http.StatusUnauthorized:
		return resp.Header.Get("WWW-Authenticate"), nil
	case resp.StatusCode == http.StatusTooManyRequests, resp.StatusCode >= http.StatusInternalServerError:
		return "", runtime.NewResponseError(resp)
	}
	return "", nil
}

var challengeValue = regexp.MustCompile(`(scope|resource)="?([^", ]+)`)

// resourceOf reads the resource from a challenge; "" if there is none, or none above
// the vault's host: a vault may not request tokens for another service (see "vault-uri"
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
