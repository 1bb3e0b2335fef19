package keyvault

import (
	"net/http"
	"regexp"
	"sync/atomic"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// apiVersion is a policy that sets the version of Key Vault's API on each request. The SDK's
// clients send the newest one that they know, and azcore's ClientOptions.APIVersion is fixed when
// a client is made. Clouds such as Azure Stack Hub are years behind. A vault that refuses a version
// names the latest one that it supports: the request is sent once more with that version, which
// then applies to all requests to the vault.
type apiVersion struct {
	supported atomic.Pointer[string] // that the vault named; nil if it has refused none
}

func (a *apiVersion) Do(req *policy.Request) (*http.Response, error) {
	version := callerOf(req.Raw().Context()).APIVersion
	if named := a.supported.Load(); named != nil {
		version = *named
	}
	sent := setAPIVersion(req, version)
	resp, err := req.Next()
	if err != nil {
		return resp, err
	}
	named, refused := refusedVersion(resp)
	if !refused || named == "" || named == sent {
		return resp, nil
	}
	setAPIVersion(req, named)
	if resp, err = req.Next(); err != nil {
		return resp, err
	}
	if _, refused = refusedVersion(resp); !refused && resp.StatusCode < http.StatusInternalServerError {
		a.supported.Store(&named)
	}
	return resp, nil
}

// setAPIVersion sets the version, unless it is "", and returns the one that the request has.
func setAPIVersion(req *policy.Request, version string) string {
	const parameter = "api-version"
	query := req.Raw().URL.Query()
	if version != "" && query.Get(parameter) != version {
		query.Set(parameter, version)
		req.Raw().URL.RawQuery = query.Encode()
	}
	return query.Get(parameter)
}

var (
	// What follows a word such as "supported" or "latest" names other versions.
	versionRefusal = regexp.MustCompile(`(?is)(?:\b(?:(?:specified|requested) (?:api[- ]?)?version|version \S{1,64} specified|api[- ]?version)\b.{0,64}\bis (?:not (?:recogni[sz]ed|supported|valid|available)|unsupported|invalid|unknown)\b` +
		`|\b(?:unsupported|unknown|invalid) api[- ]?version\b|\bdoes not support (?:the )?(?:specified )?api[- ]?version\b).*?(?:\b(?:supported|supports|latest|use)\b(.*))?$`)
	versionText = regexp.MustCompile(`\b(?:[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{1,2}\.[0-9]{1,2})(?:-preview(?:\.[0-9]{1,2})?)?\b`)
)

// refusedVersion reports whether the response refuses the API version of its request, and which
// one it names instead; "" for none.
func refusedVersion(resp *http.Response) (named string, refused bool) {
	if resp.StatusCode != http.StatusBadRequest {
		return "", false
	}
	text, err := runtime.Payload(resp)
	if err != nil {
		return "", false
	}
	return readError(text).refusedVersion()
}

func (b errorBody) refusedVersion() (named string, refused bool) {
	m := versionRefusal.FindStringSubmatch(b.Error.Message)
	if m == nil {
		return "", false
	}
	if all := versionText.FindAllString(m[1], -1); len(all) > 0 {
		named = all[len(all)-1]
	}
	return named, true
}
