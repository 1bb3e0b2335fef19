package entra

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"akv-csi-provider/provider/coalesce"
	"akv-csi-provider/provider/transport"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

const (
	maxMetadata      = 1024
	maxMetadataBytes = 64 << 10 // that of Entra has two KiB
	maxMetadataURL   = 1 << 10
	metadataTime     = signInTime           // for one read with its retries, however many callers wait for it
	metadataRefresh  = 24 * time.Hour       // what Entra says in Cache-Control
	metadataAgain    = 5 * time.Minute      // after a refresh that failed
	metadataLife     = 365 * 24 * time.Hour // while it cannot be refreshed
	metadataSuffix   = "/.well-known/openid-configuration"
)

// metadataCache caches the OIDC metadata of authorities and tenants, which MSAL would read for
// every caller, since every caller has its own client. It contains nothing of a caller. Metadata is
// refreshed after a day; while that fails, the old one stays.
type metadataCache = coalesce.Group[string, *metadata]

func newMetadataCache() *metadataCache {
	return coalesce.New[string](coalesce.Config[*metadata]{Timeout: metadataTime, Budget: coalesce.NewBudget(maxMetadata), RefreshRetry: metadataAgain})
}

// metadata is a response of an authority.
type metadata struct {
	status int
	header http.Header
	body   []byte
}

// authorityPolicy answers MSAL's requests for OIDC metadata of an authority without a request,
// where it can. Other requests, that for the token among them, go on to the throttle.
type authorityPolicy struct {
	cache *metadataCache
	known func(authority string) bool // see Config.KnownAuthority
}

// errClearText is why a request was not sent: a credential is not sent in clear text,
// wherever an authority's metadata says that its token endpoint is.
var errClearText = errors.New("the token endpoint is not https")

// Do implements policy.Policy.
func (a *authorityPolicy) Do(req *policy.Request) (*http.Response, error) {
	if req.Raw().URL.Scheme != "https" {
		return nil, errClearText
	}
	url, ok := metadataURL(req.Raw())
	if !ok {
		return req.Next()
	}
	if doc := knownMetadata(req.Raw().URL, a.known); doc != nil {
		return doc.response(req.Raw()), nil
	}
	doc, _, err := a.cache.Do(req.Raw().Context(), url, coalesce.Freshness{}, func(ctx context.Context, _ *coalesce.Call) (*metadata, coalesce.Life, error) {
		return readMetadata(req.Clone(ctx)) // the original belongs to its caller, which may leave
	})
	if other, ok := errors.AsType[notMetadata](err); ok {
		return other.response(req.Raw()), nil
	}
	if err != nil {
		return nil, err
	}
	return doc.response(req.Raw()), nil
}

// metadataURL returns the URL of a request for metadata, which is its key in the cache; false
// for any other request.
func metadataURL(req *http.Request) (string, bool) {
	u := req.URL
	if req.Method != http.MethodGet || req.Body != nil && req.Body != http.NoBody || u.User != nil ||
		req.Host != "" && req.Host != u.Host || req.Header.Get("Authorization") != "" || !strings.HasSuffix(u.Path, metadataSuffix) {
		return "", false
	}
	url := u.String()
	return url, len(url) <= maxMetadataURL
}

// notMetadata is a response that is not metadata, as the error of a read: it does not replace
// metadata that is cached.
type notMetadata struct{ *metadata }

func (n notMetadata) Error() string { return transport.Status(n.metadata.status) }

// readMetadata sends the request.
func readMetadata(req *policy.Request) (*metadata, coalesce.Life, error) {
	resp, err := req.Next()
	if err != nil {
		return nil, coalesce.Life{}, err
	}
	body, err := runtime.Payload(resp)
	if err != nil {
		return nil, coalesce.Life{}, err
	}
	doc := &metadata{status: resp.StatusCode, header: resp.Header, body: body}
	var object map[string]json.RawMessage
	if doc.status != http.StatusOK || len(body) > maxMetadataBytes || json.Unmarshal(body, &object) != nil || object == nil {
		return nil, coalesce.Life{}, notMetadata{doc}
	}
	now := time.Now()
	return doc, coalesce.Life{Until: now.Add(metadataLife), Refresh: now.Add(metadataRefresh)}, nil
}

// knownMetadata returns the OIDC metadata of a tenant of an authority whose endpoints are
// published ("Microsoft identity platform and the OAuth 2.0 client credentials flow",
// and "National clouds" for the hosts), so that the first sign-in of a tenant on a node
// needs no request for it; nil for any other. What MSAL reads of it are the three
// fields; a tenant that does not exist fails the token request.
func knownMetadata(u *url.URL, known func(authority string) bool) *metadata {
	authority := "https://" + u.Host
	tenant, ok := strings.CutSuffix(strings.TrimPrefix(u.Path, "/"), "/v2.0"+metadataSuffix)
	if !ok || known == nil || !known(authority) || tenant == "" || strings.Contains(tenant, "/") || u.RawQuery != "" {
		return nil
	}
	base := authority + "/" + url.PathEscape(tenant)
	body, err := json.Marshal(map[string]string{
		"token_endpoint":         base + "/oauth2/v2.0/token",
		"authorization_endpoint": base + "/oauth2/v2.0/authorize",
		"issuer":                 base + "/v2.0",
	})
	if err != nil {
		return nil
	}
	return &metadata{status: http.StatusOK, header: http.Header{"Content-Type": {"application/json"}}, body: body}
}

// response makes a response with its own body.
func (d *metadata) response(req *http.Request) *http.Response {
	return &http.Response{
		Status: transport.Status(d.status), StatusCode: d.status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: d.header.Clone(), Body: io.NopCloser(bytes.NewReader(d.body)), ContentLength: int64(len(d.body)),
		Request: req,
	}
}
