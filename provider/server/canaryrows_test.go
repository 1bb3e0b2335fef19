package server_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"akv-csi-provider/provider"
	"akv-csi-provider/provider/azuretest"
	"akv-csi-provider/provider/entra"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/request"
	"akv-csi-provider/provider/server"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
	"software.sslmate.com/src/go-pkcs12"
)

// panickingWith panics with the value of what the mount contains.
type panickingWith struct{ value func(secret string) any }

func (p panickingWith) Mount(_ context.Context, req *request.Mount, _ time.Time) (*provider.Volume, error) {
	panic(p.value(string(req.Identity.Tokens[entra.Audience])))
}

// failingWith fails with an error that quotes the token.
type failingWith struct{ err func(secret string) error }

func (f failingWith) Mount(_ context.Context, req *request.Mount, _ time.Time) (*provider.Volume, error) {
	return nil, f.err(string(req.Identity.Tokens[entra.Audience]))
}

// canaryPanics are bugs whose values and errors contain the pod's token.
func canaryPanics() []canaryRow {
	mounter := func(name, reason string, m server.Mounter) canaryRow {
		return canaryRow{failure: failure{name: "canary/" + name, wantReason: reason, setup: setup{config: func(c *server.Config) { c.Mounter = m }}}}
	}
	panics := func(name string, value func(string) any) canaryRow {
		return mounter("panic with "+name, "Internal", panickingWith{value})
	}
	fails := func(name, reason string, err func(string) error) canaryRow {
		return mounter("error/"+name, reason, failingWith{err})
	}
	rows := []canaryRow{
		panics("a text", func(s string) any { return s }),
		panics("an error", func(s string) any { return errors.New(s) }),
		panics("bytes", func(s string) any { return []byte(s) }),
		panics("a field", func(s string) any { return struct{ Secret string }{s} }),
		panics("a map", func(s string) any { return map[string]string{s: s} }),
		panics("an error of the runtime", func(s string) any { m := map[any]int{}; m[[]string{s}]++; return nil }),
		fails("untyped", "Internal", func(s string) error { return errors.New(s) }),
		fails("of a deadline", "Timeout", func(s string) error { return fmt.Errorf("%s: %w", s, context.DeadlineExceeded) }),
		fails("of a caller that left", "Canceled", func(s string) error { return fmt.Errorf("%s: %w", s, context.Canceled) }),
		fails("of gRPC", "Internal", func(s string) error { return status.Error(codes.Unavailable, s) }),
		fails("of an unknown reason", "Internal", func(s string) error { return &fault.Error{Reason: "Unknown", Cause: s, Fix: s} }),
		fails("underneath", "AccessDenied", func(s string) error {
			return &fault.Error{Reason: fault.AccessDenied, Cause: "a", Fix: "b", Err: errors.New(s)}
		}),
		fails("several", "Internal", func(s string) error { return fault.Errors{errors.New(s), errors.New(s)} }),
	}
	for _, host := range []string{"login.microsoftonline.com", "contoso.vault.azure.net"} {
		rows = append(rows, at(host, "canary/panic at "+host, func(_ *http.Request, seen string) (*http.Response, error) { panic(seen) }),
			at(host, "canary/transport error at "+host, func(_ *http.Request, seen string) (*http.Response, error) { return nil, errors.New(seen) }),
			at(host, "canary/temporary transport error at "+host, func(_ *http.Request, seen string) (*http.Response, error) {
				return nil, fmt.Errorf("%s: %w", seen, io.ErrUnexpectedEOF)
			}))
	}
	return rows
}

// at answers requests to the host in place of Azure. Seen is all that is secret in the request: its
// Authorization header and its form.
func at(host, name string, answer func(req *http.Request, seen string) (*http.Response, error)) canaryRow {
	return canaryRow{failure: failure{name: name, setup: setup{roundTripper: func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(req *http.Request) (*http.Response, error) {
			if req.URL.Host != host {
				return next.RoundTrip(req)
			}
			_, token, _ := strings.Cut(req.Header.Get("Authorization"), " ")
			if req.Body != nil {
				body, err := io.ReadAll(req.Body)
				if err != nil {
					return nil, err
				}
				form, err := url.ParseQuery(string(body))
				if err != nil {
					return nil, err
				}
				token += form.Get("client_assertion") + form.Get("client_secret")
			}
			return answer(req, token)
		})
	}}}}
}

// canaryEchoes are services that send back what they received: in each member of an error's body, in
// a page, and in headers.
func canaryEchoes() []canaryRow {
	var rows []canaryRow
	bodies := map[string]func(seen string) any{
		"vault": func(seen string) any {
			return map[string]any{"error": map[string]any{"code": seen, "message": seen, "innererror": map[string]any{"code": seen, "message": seen}}}
		},
		"vault's inner code": func(seen string) any {
			return map[string]any{"error": map[string]any{"code": "Forbidden", "message": "AKV10032: " + seen, "innererror": map[string]any{"code": "ForbiddenByRbac" + seen}}}
		},
		"Entra": func(seen string) any {
			return map[string]any{"error": seen, "error_description": "AADSTS7000215: " + seen, "error_codes": []int{7000215}, "trace_id": seen,
				"correlation_id": seen, "timestamp": seen, "error_uri": seen, "suberror": seen, "claims": seen}
		},
		"a token": func(seen string) any {
			return map[string]any{"token_type": "Bearer", "expires_in": 3600, "access_token": seen + "\r\nX-Injected: " + seen}
		},
		"a value": func(seen string) any {
			return map[string]any{"value": seen, "id": "https://contoso.vault.azure.net/secrets/" + seen, "contentType": seen, "kid": seen}
		},
		"a page": func(seen string) any { return seen },
	}
	const entraHost, vaultHost = "login.microsoftonline.com", "contoso.vault.azure.net"
	for name, hosts := range map[string][]string{"vault": {vaultHost}, "vault's inner code": {vaultHost}, "a value": {vaultHost},
		"Entra": {entraHost}, "a token": {entraHost}, "a page": {vaultHost, entraHost}} {
		body := bodies[name]
		for _, code := range []int{200, 302, 400, 401, 403, 404, 500} {
			for _, host := range hosts {
				rows = append(rows, at(host, fmt.Sprintf("canary/echo %s with status %d at %s", name, code, host), echo(code, body)))
			}
		}
	}
	return rows
}

func echo(code int, body func(seen string) any) func(*http.Request, string) (*http.Response, error) {
	return func(req *http.Request, seen string) (*http.Response, error) {
		content, err := json.Marshal(body(seen))
		if err != nil {
			return nil, err
		}
		if text, ok := body(seen).(string); ok {
			content = []byte("<html>" + text + "</html>")
		}
		header := http.Header{"Content-Type": {"application/json"}, "Retry-After": {seen}, "Location": {"/" + seen}, "X-Ms-Request-Id": {seen},
			"Www-Authenticate": {`Bearer authorization="https://login.microsoftonline.com/` + seen + `", resource="` + seen + `"`}, "X-Ms-Error-Code": {seen}}
		return &http.Response{StatusCode: code, Status: fmt.Sprint(code, " ", seen), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: header,
			Body: io.NopCloser(bytes.NewReader(content)), ContentLength: int64(len(content)), Request: req}, nil
	}
}

// canaryCredentials are client secrets, right and wrong, and tokens in other places.
func canaryCredentials() []canaryRow {
	password := func(name, reason string, prepare func(c *canaries, w *world, right string)) canaryRow {
		right := newMark()
		return canaryRow{failure: failure{name: "canary/password, " + name, wantReason: reason, pod: map[string]string{"clientID": ""},
			secret: map[string]string{"clientid": clientID, "clientsecret": right}}, prepare: func(_ *testing.T, c *canaries, w *world) {
			w.app.Unfederate()
			prepare(c, w, right)
		}}
	}
	broken := func(name string, change func(c *canaries, req *v1alpha1.MountRequest)) canaryRow {
		return canaryRow{failure: failure{name: "canary/request, " + name, wantReason: "InvalidParameter"}, request: change}
	}
	return []canaryRow{
		password("right", "", func(_ *canaries, w *world, right string) { w.app.AddSecret(right, time.Time{}) }),
		password("right but without a role", "AccessDenied", func(_ *canaries, w *world, right string) {
			w.app.AddSecret(right, time.Time{})
			w.vault.Revoke(clientID)
		}),
		{failure: failure{name: "canary/certificate", pod: map[string]string{"clientID": ""}, secret: map[string]string{"clientid": clientID, "clientcertificate": newClientCertificate().pem}},
			prepare: func(_ *testing.T, _ *canaries, w *world) {
				w.app.Unfederate()
				w.app.AddCertificate(newClientCertificate().Certificate)
			}},
		password("wrong", "ClientSecretInvalid", func(c *canaries, w *world, _ string) { w.app.AddSecret(c.mark(), time.Time{}) }),
		password("expired", "ClientSecretExpired", func(_ *canaries, w *world, right string) { w.app.AddSecret(right, time.Now().Add(-time.Hour)) }),
		broken("attributes cut", func(_ *canaries, req *v1alpha1.MountRequest) {
			req.Attributes = req.GetAttributes()[:len(req.GetAttributes())-2]
		}),
		broken("attributes of another type", func(c *canaries, req *v1alpha1.MountRequest) {
			req.Attributes = fmt.Sprintf(`{"keyvaultName": [%q]}`, c.mark())
		}),
		broken("secrets cut", func(_ *canaries, req *v1alpha1.MountRequest) {
			req.Secrets = req.GetSecrets()[:len(req.GetSecrets())-2]
		}),
		broken("secrets of another type", func(c *canaries, req *v1alpha1.MountRequest) {
			req.Secrets = fmt.Sprintf(`{"clientsecret": [%q]}`, c.mark())
		}),
		{failure: failure{name: "canary/tokens in the secrets"}, request: moveTokens},
		{failure: failure{name: "canary/tokens in the secrets are not JSON", wantReason: "InvalidParameter"}, request: func(c *canaries, req *v1alpha1.MountRequest) {
			moveTokens(c, req)
			req.Secrets = strings.Replace(req.GetSecrets(), `{\"`, `[\"`, 1)
		}},
		{failure: failure{name: "canary/tokens are not JSON", wantReason: "InvalidParameter", pod: map[string]string{tokensAttribute: newMark()}}},
		{failure: failure{name: "canary/tokens are of another type", wantReason: "InvalidParameter", pod: map[string]string{tokensAttribute: fmt.Sprintf(`{%q: [%q]}`, newMark(), newMark())}}},
		{failure: failure{name: "canary/token for an odd audience", wantReason: "TokenRequestMissing", pod: map[string]string{tokensAttribute: fmt.Sprintf(`{"a": {"token": %q}}`, newMark())}}},
		{failure: failure{name: "canary/token is not a JWT", wantReason: "SignInFailed", tokens: map[string]string{entra.Audience: newMark()}}},
	}
}

// moveTokens moves the tokens to where kubelet puts them if the CSIDriver says serviceAccountTokenInSecrets.
func moveTokens(_ *canaries, req *v1alpha1.MountRequest) {
	var attributes, secrets map[string]string
	if err := errors.Join(json.Unmarshal([]byte(req.GetAttributes()), &attributes), json.Unmarshal([]byte(req.GetSecrets()), &secrets)); err != nil {
		panic(err)
	}
	secrets[tokensAttribute] = attributes[tokensAttribute]
	delete(attributes, tokensAttribute)
	for to, from := range map[*string]map[string]string{&req.Attributes: attributes, &req.Secrets: secrets} {
		text, err := json.Marshal(from)
		if err != nil {
			panic(err)
		}
		*to = string(text)
	}
}

// canaryContents are certificates with private keys that cannot be rendered, and what can.
func canaryContents() []canaryRow {
	var rows []canaryRow
	for name, make := range map[string]func(t *testing.T, c chain) (contentType, value string){
		"PEM":             func(t *testing.T, c chain) (string, string) { return pemType, c.keyPEM(t) + certificatesPEM(c.leaf) },
		"PEM without key": func(_ *testing.T, c chain) (string, string) { return pemType, certificatesPEM(c.leaf) },
		"PEM cut":         func(t *testing.T, c chain) (string, string) { return pemType, c.keyPEM(t)[:150] },
		"PEM broken": func(t *testing.T, c chain) (string, string) {
			return pemType, strings.Replace(c.keyPEM(t), "\n", "\n!", 2)
		},
		"PEM as PKCS#12": func(t *testing.T, c chain) (string, string) { return pfxType, c.keyPEM(t) },
		"PKCS#12": func(t *testing.T, c chain) (string, string) {
			return pfxType, base64.StdEncoding.EncodeToString(c.pfx(t, pkcs12.Modern))
		},
		"PKCS#12 in the open": func(t *testing.T, c chain) (string, string) {
			return pfxType, base64.StdEncoding.EncodeToString(c.pfx(t, pkcs12.Passwordless))
		},
		"PKCS#12 cut": func(t *testing.T, c chain) (string, string) {
			return pfxType, base64.StdEncoding.EncodeToString(c.pfx(t, pkcs12.Passwordless)[:300])
		},
		"PKCS#12 broken": func(t *testing.T, c chain) (string, string) {
			return pfxType, "!" + base64.StdEncoding.EncodeToString(c.pfx(t, pkcs12.Passwordless))
		},
		"PKCS#12 as PEM": func(t *testing.T, c chain) (string, string) {
			return pemType, base64.StdEncoding.EncodeToString(c.pfx(t, pkcs12.Passwordless))
		},
		"PKCS#12 of another type": func(t *testing.T, c chain) (string, string) {
			return "", base64.StdEncoding.EncodeToString(c.pfx(t, pkcs12.Passwordless))
		},
	} {
		for _, fields := range []string{"", "objectFormat: pfx", "objectEncoding: hex"} {
			rows = append(rows, canaryRow{failure: failure{name: fmt.Sprintf("canary/content, %s, {%s}", name, fields)}, objects: fmt.Sprintf(objectOf, fields),
				prepare: func(t *testing.T, c *canaries, w *world) {
					made := newChain(t)
					contentType, value := make(t, made)
					c.addKey(made.key)
					c.add(value, value[len(value)/2:])
					w.vault.SetSecret("my-secret", azuretest.Secret{Value: value, ContentType: contentType, KID: "https://contoso.vault.azure.net/keys/my-secret/1"})
				}})
		}
	}
	return rows
}

const (
	pemType = "application/x-pem-file"
	pfxType = "application/x-pkcs12"
)
