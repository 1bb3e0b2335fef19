package server_test

import (
	"context"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"

	"akv-csi-provider/provider"
	"akv-csi-provider/provider/azuretest"
	"akv-csi-provider/provider/entra"
	"akv-csi-provider/provider/server"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// failure is a way to fail a mount of one.yaml and what the caller gets to see.
type failure struct {
	name       string
	setup      setup
	pod        map[string]string // parameters the pod overwrites
	secret     map[string]string // of the nodePublishSecretRef
	tokens     map[string]string // nil: the pod's own
	bound      bool              // with a token of the audience of identity bindings
	prepare    func(*world)
	wantCode   codes.Code
	wantReason string
}

const objectOf = "[{objectName: my-secret, objectType: secret, %s}]"

// parameters are the bad parameters and object fields, by name.
var parameters = []struct{ name, parameter, value string }{
	{"vault missing", "keyvaultName", " "},
	{"vault name as URL", "keyvaultName", "https://contoso.vault.azure.net"},
	{"vault name too short", "keyvaultName", "ab"},
	{"tenant not a name", "tenantID", "my tenant"},
	{"client not an ID", "clientID", "client/../other"},
	{"boolean", "useVMManagedIdentity", "yes"},
	{"pod identity", "usePodIdentity", "true"},
	{"cloud unknown", "cloudName", "AzureMoonCloud"},
	{"cloud closed", "cloudName", "AzureGermanCloud"},
	{"pod name missing", "csi.storage.k8s.io/pod.name", ""},
	{"pod namespace missing", "csi.storage.k8s.io/pod.namespace", ""},
	{"tokens not kubelet's", "csi.storage.k8s.io/serviceAccount.tokens", "CANARY-TOKEN"},
	{"objects missing", "objects", ""},
	{"objects not YAML", "objects", "array:\n\t- x"},
	{"objects not a list", "objects", "objectName: my-secret"},
	{"objects empty", "objects", "array: []"},
	{"object not a mapping", "objects", "array: [my-secret]"},
	{"field twice", "objects", fmt.Sprintf(objectOf, "objectName: other")},
	{"object name", "objects", "[{objectName: my_secret, objectType: secret}]"},
	{"URL of an object", "objects", "[{objectName: https://contoso.vault.azure.net/keys/db/0123456789abcdef0123456789abcdef, objectType: secret}]"},
	{"object type", "objects", "[{objectName: my-secret, objectType: certificate}]"},
	{"object type in another case", "objects", "[{objectName: my-secret, objectType: Secret}]"},
	{"vault of a template", "keyvaultName", "{{ .Values.vault }}"},
	{"object name of a template", "objects", "array:\n- |\n  objectName: {{ .Values.name }}\n  objectType: secret"},
	{"object name of a pipeline", "objects", "[{objectName: $(name), objectType: secret}]"},
	{"template around the objects", "objects", "{{- range .Values.names }}\n- objectName: {{ . }}\n{{- end }}"},
	{"objects in two documents", "objects", "- {objectName: a, objectType: secret}\n---\n- {objectName: b, objectType: secret}"},
	{"objects under another key", "objects", "Array: [{objectName: a, objectType: secret}]"},
	{"objects of short lines", "objects", strings.Repeat("- #\n", 50_000)},
	{"object version", "objects", fmt.Sprintf(objectOf, "objectVersion: ../keys")},
	{"version history", "objects", fmt.Sprintf(objectOf, "objectVersionHistory: many")},
	{"alias absolute", "objects", fmt.Sprintf(objectOf, "objectAlias: /etc/passwd")},
	{"alias upwards", "objects", fmt.Sprintf(objectOf, "objectAlias: a/../../b")},
	{"alias with leading dots", "objects", fmt.Sprintf(objectOf, "objectAlias: ..data")},
	{"alias not clean", "objects", fmt.Sprintf(objectOf, "objectAlias: a//b")},
	{"alias part too long", "objects", fmt.Sprintf(objectOf, "objectAlias: "+strings.Repeat("x", 256))},
	{"alias below a file", "objects", "[{objectName: a, objectType: secret}, {objectName: b, objectType: secret, objectAlias: a/b}]"},
	{"format", "objects", fmt.Sprintf(objectOf, "objectFormat: der")},
	{"encoding", "objects", fmt.Sprintf(objectOf, "objectEncoding: utf-16")},
	{"encoding of a key", "objects", "[{objectName: k, objectType: key, objectEncoding: hex}]"},
	{"pfx of a certificate", "objects", "[{objectName: c, objectType: cert, objectFormat: pfx}]"},
	{"permission not octal", "objects", fmt.Sprintf(objectOf, `filePermission: "0888"`)},
	{"permission too large", "objects", fmt.Sprintf(objectOf, `filePermission: "1777"`)},
	{"object type missing", "objects", "[{objectName: my-secret, objecttype: secret}]"},
	{"object name missing", "objects", "[{objectType: secret}]"},
	{"custom cloud without a file", "cloudName", "AzureStackCloud"},
	{"two mistakes", "objects", fmt.Sprintf(objectOf, "objectAlias: ../x, filePermission: rw")},
	{"two kinds of entry", "objects", fmt.Sprintf(objectOf, "find: {name: x}")},
	{"field of another kind", "objects", fmt.Sprintf(objectOf, "maxObjects: 5")},
	{"failover to the same vault", "failoverKeyvaultName", "Contoso"},
	{"vault of an object", "objects", fmt.Sprintf(objectOf, "keyvaultName: https://x.vault.azure.net")},
	{"optional", "objects", fmt.Sprintf(objectOf, "optional: maybe")},
	{"jwk of a secret", "objects", fmt.Sprintf(objectOf, "objectFormat: jwk")},
	{"find without an expression", "objects", "[{objectType: secret, find: {names: x}}]"},
	{"find with a bad expression", "objects", "[{objectType: secret, find: {name: '^(x'}}]"},
	{"find with two groups", "objects", "[{objectType: secret, find: {name: '(a)(b)'}}]"},
	{"find that repeats too much", "objects", "[{objectType: secret, find: {name: '(x+x+){100}'}}]"},
	{"find of too many", "objects", "[{objectType: secret, find: {name: x}, maxObjects: 5000}]"},
	{"bundle without a file", "objects", "[{objectType: secret, find: {name: x}, bundle: dotenv}]"},
	{"bundle of an object", "objects", fmt.Sprintf(objectOf, "bundle: dotenv")},
	{"pieces of a key", "objects", "[{objectName: k, objectType: key, expand: json}]"},
	{"pieces of a history", "objects", fmt.Sprintf(objectOf, "expand: json, objectVersionHistory: 2")},
	{"pieces in two ways", "objects", fmt.Sprintf(objectOf, "expand: json, jmesPath: [{path: a, objectAlias: b}]")},
	{"piece with a bad expression", "objects", fmt.Sprintf(objectOf, "jmesPath: [{path: 'a[', objectAlias: b}]")},
	{"piece without a file", "objects", fmt.Sprintf(objectOf, "jmesPath: [{path: a, alias: b}]")},
	{"piece with the path of another", "objects", fmt.Sprintf(objectOf, "objectAlias: b, jmesPath: [{path: a, objectAlias: b}]")},
	{"part unknown", "objects", fmt.Sprintf(objectOf, "files: [{part: fulchain, objectAlias: b}]")},
	{"keystore without a password", "objects", fmt.Sprintf(objectOf, "files: [{part: pkcs12, objectAlias: b}]")},
	{"document without a file", "objects", "[{template: x}]"},
	{"document with a bad name", "objects", `[{objectAlias: f, template: '{{ secret "a_b" }}'}]`},
	{"document with an unknown function", "objects", `[{objectAlias: f, template: '{{ env "HOME" }}'}]`},
}

func failures() []failure {
	var all []failure
	for _, p := range parameters {
		all = append(all, failure{name: "parameter/" + p.name, pod: map[string]string{p.parameter: p.value},
			wantCode: codes.InvalidArgument, wantReason: "InvalidParameter"})
	}
	return slices.Concat(all, identityFailures(), credentialFailures(), entraFailures(), vaultFailures(), refusalFailures(), networkFailures())
}

func identityFailures() []failure {
	return []failure{
		{name: "identity/none", pod: map[string]string{"clientID": ""}, wantCode: codes.InvalidArgument, wantReason: "NoIdentity"},
		{name: "identity/no tokens", tokens: map[string]string{}, wantCode: codes.FailedPrecondition, wantReason: "TokenRequestMissing"},
		{name: "identity/other audience", tokens: map[string]string{"vault": "CANARY-TOKEN"}, wantCode: codes.FailedPrecondition, wantReason: "TokenRequestMissing"},
		{name: "identity/two modes", pod: map[string]string{"useVMManagedIdentity": "true", "useAzureTokenProxy": "true"}, wantCode: codes.InvalidArgument, wantReason: "InvalidParameter"},
		{name: "identity/binding without client", pod: map[string]string{"useAzureTokenProxy": "true", "clientID": ""}, wantCode: codes.InvalidArgument, wantReason: "NoIdentity"},
		{name: "identity/binding without token", pod: map[string]string{"useAzureTokenProxy": "true"}, wantCode: codes.FailedPrecondition, wantReason: "TokenRequestMissing"},
		{name: "identity/mode refused", setup: setup{mounter: func(m *provider.Mounter) { m.Modes = []entra.Mode{entra.ManagedIdentity} }},
			wantCode: codes.PermissionDenied, wantReason: "IdentityModeRefused"},
		{name: "identity/namespace refused", setup: setup{mounter: func(m *provider.Mounter) { m.NodeNamespaces = []string{"kube-system"} }},
			pod: map[string]string{"useVMManagedIdentity": "true"}, wantCode: codes.PermissionDenied, wantReason: "IdentityModeRefused"},
		{name: "identity/no token and no client", pod: map[string]string{"clientID": ""}, tokens: map[string]string{}, wantCode: codes.InvalidArgument, wantReason: "NoIdentity"},
		{name: "identity/not in a cluster", setup: setup{mounter: func(m *provider.Mounter) { m.Accounts = nil }}, pod: map[string]string{"clientID": ""},
			wantCode: codes.InvalidArgument, wantReason: "NoIdentity"},
		{name: "identity/odd annotation", pod: map[string]string{"clientID": ""}, prepare: annotate("azure.workload.identity/client-id", "CLIENT/ID"),
			wantCode: codes.InvalidArgument, wantReason: "InvalidParameter"},
		{name: "identity/unknown client of an annotation", pod: map[string]string{"clientID": ""},
			prepare:  annotate("azure.workload.identity/client-id", "99999999-9999-9999-9999-999999999999"),
			wantCode: codes.Unauthenticated, wantReason: "ApplicationNotFound"},
		{name: "identity/account may not be read", pod: map[string]string{"clientID": ""}, prepare: func(w *world) { w.api.Forbid(true) },
			wantCode: codes.FailedPrecondition, wantReason: "ServiceAccountLookupForbidden"},
		{name: "identity/account gone", pod: map[string]string{"clientID": ""}, prepare: func(w *world) { w.api.DeleteServiceAccount("shop", "reader") },
			wantCode: codes.FailedPrecondition, wantReason: "ServiceAccountLookupForbidden"},
		{name: "identity/API server fails", pod: map[string]string{"clientID": ""}, prepare: withFault(azuretest.Lookup, azuretest.Fault{Status: 500}),
			wantCode: codes.FailedPrecondition, wantReason: "ServiceUnavailable"},
		{name: "identity/misspelled annotation", pod: map[string]string{"clientID": ""}, prepare: annotate("azure.workload.identity/client_id", clientID),
			wantCode: codes.InvalidArgument, wantReason: "NoIdentity"},
		{name: "identity/annotation without a value", pod: map[string]string{"clientID": ""}, prepare: annotate("azure.workload.identity/client-id", " "),
			wantCode: codes.InvalidArgument, wantReason: "NoIdentity"},
		{name: "identity/label instead of an annotation", pod: map[string]string{"clientID": ""}, prepare: func(w *world) {
			w.api.SetLabels("shop", "reader", map[string]string{"azure.workload.identity/client-id": clientID, "azure.workload.identity/use": "true"})
		}, wantCode: codes.InvalidArgument, wantReason: "NoIdentity"},
		{name: "identity/misspelled tenant annotation", pod: map[string]string{"clientID": "", "tenantID": ""}, prepare: func(w *world) {
			w.api.SetServiceAccount("shop", "reader", map[string]string{"azure.workload.identity/client-id": clientID, "azure.workload.identity/tenantId": tenantID})
		}, wantCode: codes.InvalidArgument, wantReason: "InvalidParameter"},
		{name: "identity/client of the Secret without a token", pod: map[string]string{"clientID": ""}, secret: map[string]string{"clientid": clientID}, tokens: map[string]string{},
			wantCode: codes.FailedPrecondition, wantReason: "TokenRequestMissing"},
		{name: "identity/tenant of the Secret", pod: map[string]string{"clientID": "", "tenantID": ""}, secret: map[string]string{"clientid": clientID, "tenantid": "CANARY/"},
			wantCode: codes.InvalidArgument, wantReason: "InvalidParameter"},
		{name: "identity/no tenant", pod: map[string]string{"tenantId": "", "tenantID": ""}, wantCode: codes.InvalidArgument, wantReason: "InvalidParameter"},
		{name: "identity/foreign service account", prepare: func(w *world) { w.pod.ServiceAccount = "other" },
			wantCode: codes.Unauthenticated, wantReason: "FederatedCredentialMissing"},
	}
}

func annotate(name, value string) func(*world) {
	return func(w *world) { w.api.SetServiceAccount("shop", "reader", map[string]string{name: value}) }
}

// credentialFailures are those of the other credentials.
func credentialFailures() []failure {
	node := map[string]string{"useVMManagedIdentity": "true"}
	chosen := map[string]string{"useVMManagedIdentity": "true", "userAssignedIdentityID": clientID}
	noClient, binding := map[string]string{"clientID": ""}, map[string]string{"useAzureTokenProxy": "true"}
	password := map[string]string{"clientid": clientID, "clientsecret": "CANARY"}
	return []failure{
		{name: "node/no system-assigned identity", pod: node, wantCode: codes.Unauthenticated, wantReason: "ManagedIdentityUnavailable"},
		{name: "node/not assigned", pod: chosen, wantCode: codes.Unauthenticated, wantReason: "ManagedIdentityUnavailable"},
		{name: "node/several", pod: node, prepare: func(w *world) { w.IMDS().Assign(w.app); w.IMDS().Assign(w.tenant.Application("second")) },
			wantCode: codes.Unauthenticated, wantReason: "ManagedIdentityUnavailable"},
		{name: "node/429", pod: chosen, prepare: withFault(azuretest.Identity, azuretest.Fault{Status: 429}), wantCode: codes.FailedPrecondition, wantReason: "Throttled"},
		{name: "node/500", pod: chosen, prepare: withFault(azuretest.Identity, azuretest.Fault{Status: 500}), wantCode: codes.FailedPrecondition, wantReason: "ServiceUnavailable"},
		{name: "node/reset", pod: chosen, prepare: withFault(azuretest.Identity, azuretest.Fault{Reset: true}), wantCode: codes.FailedPrecondition, wantReason: "ServiceUnavailable"},
		{name: "node/no such resource", pod: map[string]string{"useVMManagedIdentity": "true", "userAssignedIdentityID": webIdentity},
			wantCode: codes.Unauthenticated, wantReason: "ManagedIdentityUnavailable"},
		{name: "node/bad resource", pod: map[string]string{"useVMManagedIdentity": "true", "userAssignedIdentityID": strings.Replace(webIdentity, "ManagedIdentity", "KeyVault", 1)},
			wantCode: codes.InvalidArgument, wantReason: "InvalidParameter"},
		{name: "node/of AWS", pod: node, prepare: page(404, "<html><title>404 - Not Found</title></html>", "Server", "EC2ws"), wantCode: codes.Unauthenticated, wantReason: "ManagedIdentityUnavailable"},
		{name: "node/of AWS, with a session", pod: node, prepare: page(401, "<html>401 - Unauthorized</html>", "Server", "EC2ws"), wantCode: codes.Unauthenticated, wantReason: "ManagedIdentityUnavailable"},
		{name: "node/of Google", pod: node, prepare: page(404, "<!DOCTYPE html>", "Metadata-Flavor", "Google"), wantCode: codes.Unauthenticated, wantReason: "ManagedIdentityUnavailable"},
		{name: "node/of OpenStack", pod: node, prepare: page(400, "Bad Request", "Content-Type", "text/plain"), wantCode: codes.Unauthenticated, wantReason: "ManagedIdentityUnavailable"},
		{name: "node/JSON of another service", pod: node, prepare: page(404, `{"message":"no such path"}`, "Content-Type", "application/json"), wantCode: codes.Unauthenticated, wantReason: "ManagedIdentityUnavailable"},
		{name: "node/of Azure Arc", pod: node, prepare: page(401, "-", "Www-Authenticate", "Basic realm=/var/opt/azcmagent/tokens/1.key"), wantCode: codes.Unauthenticated, wantReason: "ManagedIdentityUnavailable"},
		{name: "node/page instead of a token", pod: node, prepare: page(200, "<html>", "Content-Type", "text/html"), wantCode: codes.Unauthenticated, wantReason: "ManagedIdentityUnavailable"},
		{name: "certificate/not registered", pod: noClient, secret: map[string]string{"clientid": clientID, "clientcertificate": newClientCertificate().pem}, wantCode: codes.Unauthenticated, wantReason: "SignInFailed"},
		{name: "certificate/without its key", pod: noClient, secret: map[string]string{"clientid": clientID, "clientcertificate": newClientCertificate().certificate}, wantCode: codes.InvalidArgument, wantReason: "InvalidParameter"},
		{name: "certificate/not one", pod: noClient, secret: map[string]string{"clientid": clientID, "clientcertificate": "CANARY"}, wantCode: codes.InvalidArgument, wantReason: "InvalidParameter"},
		{name: "password/with a line break", pod: noClient, secret: map[string]string{"clientid": clientID, "clientsecret": "CANARY\n"},
			prepare: func(w *world) { w.app.AddSecret("CANARY", time.Time{}) }, wantCode: codes.Unauthenticated, wantReason: "ClientSecretInvalid"},
		{name: "node/no role", pod: node, prepare: func(w *world) { w.IMDS().AssignSystem(w.tenant.Application("99999999-9999-9999-9999-999999999999")) },
			wantCode: codes.PermissionDenied, wantReason: "AccessDenied"},
		{name: "node/no role, by its resource", pod: map[string]string{"useVMManagedIdentity": "true", "userAssignedIdentityID": webIdentity},
			prepare: func(w *world) {
				w.IMDS().AssignResource(webIdentity, w.tenant.Application("99999999-9999-9999-9999-999999999999"))
			},
			wantCode: codes.PermissionDenied, wantReason: "AccessDenied"},
		{name: "node/other tenant", pod: node, prepare: func(w *world) {
			w.IMDS().AssignSystem(w.Tenant("99999999-9999-9999-9999-999999999999").Application("node"))
		},
			wantCode: codes.PermissionDenied, wantReason: "WrongTenant"},
		{name: "password/wrong", pod: noClient, secret: password, wantCode: codes.Unauthenticated, wantReason: "ClientSecretInvalid"},
		{name: "password/line break", pod: noClient, secret: map[string]string{"clientid": clientID, "clientsecret": "CANARY\n"}, wantCode: codes.Unauthenticated, wantReason: "ClientSecretInvalid"},
		{name: "password/wrong credentials", pod: noClient, secret: password, prepare: func(w *world) { w.app.FailWith(70002) }, wantCode: codes.Unauthenticated, wantReason: "ClientSecretInvalid"},
		{name: "password/expired", pod: noClient, secret: password, prepare: func(w *world) { w.app.AddSecret("CANARY", time.Now().Add(-time.Hour)) },
			wantCode: codes.Unauthenticated, wantReason: "ClientSecretExpired"},
		{name: "password/unknown client", pod: noClient, secret: map[string]string{"clientid": "99999999-9999-9999-9999-999999999999", "clientsecret": "CANARY"},
			wantCode: codes.Unauthenticated, wantReason: "ApplicationNotFound"},
		{name: "password/swapped", pod: noClient, secret: map[string]string{"clientid": "CANARY", "clientsecret": clientID}, wantCode: codes.InvalidArgument, wantReason: "InvalidParameter"},
		{name: "password/disabled", pod: noClient, secret: password, prepare: func(w *world) { w.app.FailWith(7000112) }, wantCode: codes.Unauthenticated, wantReason: "ApplicationNotFound"},
		{name: "binding/not bound", pod: binding, bound: true, wantCode: codes.Unauthenticated, wantReason: "FederatedCredentialMissing"},
		{name: "binding/no cluster of AKS", pod: binding, bound: true, prepare: func(w *world) {}, setup: setup{plainCluster: true},
			wantCode: codes.Unauthenticated, wantReason: "SignInFailed"},
	}
}

func entraFailures() []failure {
	all := []failure{
		{name: "entra/unknown tenant", pod: map[string]string{"tenantID": "99999999-9999-9999-9999-999999999999"}, wantCode: codes.Unauthenticated, wantReason: "TenantNotFound"},
		{name: "entra/unknown client", pod: map[string]string{"clientID": "99999999-9999-9999-9999-999999999999"}, wantCode: codes.Unauthenticated, wantReason: "ApplicationNotFound"},
		{name: "entra/429", prepare: withFault(azuretest.Token, azuretest.Fault{Status: 429}), wantCode: codes.FailedPrecondition, wantReason: "Throttled"},
		{name: "entra/502", prepare: withFault(azuretest.Token, azuretest.Fault{Status: 502, HTML: true}), wantCode: codes.FailedPrecondition, wantReason: "ServiceUnavailable"},
		{name: "entra/page of a proxy", prepare: withFault(azuretest.Token, azuretest.Fault{HTML: true}), wantCode: codes.FailedPrecondition, wantReason: "ServiceUnavailable"},
		{name: "entra/page with status 403", prepare: withFault(azuretest.Token, azuretest.Fault{HTML: true, Status: 403}), wantCode: codes.FailedPrecondition, wantReason: "ServiceUnavailable"},
		{name: "entra/unavailable", prepare: withFault(azuretest.Token, azuretest.Fault{Status: 400, Body: `{"error":"temporarily_unavailable"}`}), wantCode: codes.FailedPrecondition, wantReason: "ServiceUnavailable"},
		{name: "entra/old numbers of an assertion", prepare: withFault(azuretest.Token, azuretest.Fault{Status: 401, Body: `{"error":"invalid_client","error_codes":[70002,50012]}`}),
			wantCode: codes.Unauthenticated, wantReason: "TokenInvalid"},
		{name: "entra/AD FS without the resource", setup: stackFile(), pod: map[string]string{"cloudName": "AzureStackCloud", "cloudEnvFileName": stackPath, "tenantID": "adfs"}, prepare: func(w *world) {
			stackHub("adfs")(nil, w)
			w.SetFault(azuretest.Token, azuretest.Fault{Status: 400, Body: `{"error":"invalid_resource","error_description":"MSIS9602: x"}`})
		}, wantCode: codes.Unauthenticated, wantReason: "SignInFailed"},
		{name: "entra/AADSTS500011 on a hub", setup: stackFile(), pod: map[string]string{"cloudName": "AzureStackCloud", "cloudEnvFileName": stackPath}, prepare: func(w *world) {
			stackHub(tenantID)(nil, w)
			w.app.FailWith(500011)
		}, wantCode: codes.Unauthenticated, wantReason: "SignInFailed"},
		{name: "entra/reset", prepare: withFault(azuretest.Token, azuretest.Fault{Reset: true}), wantCode: codes.FailedPrecondition, wantReason: "ServiceUnavailable"},
	}
	for reason, numbers := range map[string][]int{
		"FederatedCredentialMissing": {70021, 700211, 700212, 700213, 7002137, 7002138, 70025},
		"ApplicationNotFound":        {700016, 7000229, 7000112, 70001, 700011},
		"TenantNotFound":             {90002, 900023},
		"TokenExpired":               {700024},
		"TokenInvalid":               {50013, 700027, 7000272},
		"IssuerUnreachable":          {90061, 50166, 501661, 900612},
		"SignInFailed":               {500011, 53003, 65001, 7002},
		"Throttled":                  {90033, 90055, 50196},
	} {
		code := codes.Unauthenticated
		if reason == "Throttled" {
			code = codes.FailedPrecondition
		}
		for _, n := range numbers {
			all = append(all, failure{name: fmt.Sprintf("entra/AADSTS%d", n), prepare: func(w *world) { w.app.FailWith(n) },
				wantCode: code, wantReason: reason})
		}
	}
	return all
}

func vaultFailures() []failure {
	const missing = "[{objectName: gone, objectType: secret}, {objectName: my-secret, objectType: secret}, {objectName: lost, objectType: secret, objectVersion: 0123456789abcdef0123456789abcdef}]"
	const mixed = "[{objectName: gone, objectType: secret}, {objectName: off, objectType: secret}]"
	disable := func(w *world) { w.vault.SetSecret("off", azuretest.Secret{Value: "CANARY", Disabled: true}) }
	return []failure{
		{name: "vault/missing secrets", pod: map[string]string{"objects": missing}, wantCode: codes.NotFound, wantReason: "ObjectNotFound"},
		{name: "vault/disabled", pod: map[string]string{"objects": "[{objectName: off, objectType: secret}]"}, prepare: disable,
			wantCode: codes.FailedPrecondition, wantReason: "ObjectDisabled"},
		{name: "vault/two causes", pod: map[string]string{"objects": mixed}, prepare: disable, wantCode: codes.NotFound, wantReason: "ObjectDisabled"},
		{name: "vault/no role", prepare: func(w *world) { w.vault.Revoke(clientID) }, wantCode: codes.PermissionDenied, wantReason: "AccessDenied"},
		{name: "vault/no role for several", prepare: func(w *world) { w.vault.Revoke(clientID) }, pod: map[string]string{"objects": missing},
			wantCode: codes.PermissionDenied, wantReason: "AccessDenied"},
		{name: "vault/no access policy", prepare: func(w *world) { w.vault.Revoke(clientID); w.vault.UseAccessPolicies(true) },
			wantCode: codes.PermissionDenied, wantReason: "AccessDenied"},
		{name: "vault/firewall", prepare: func(w *world) { w.vault.SetFirewall("ForbiddenByFirewall") }, wantCode: codes.PermissionDenied, wantReason: "VaultFirewall"},
		{name: "vault/no public access", prepare: func(w *world) { w.vault.SetFirewall("ForbiddenByConnection") }, wantCode: codes.PermissionDenied, wantReason: "VaultFirewall"},
		{name: "vault/other tenant", prepare: func(w *world) { w.Vault("elsewhere", w.Tenant("99999999-9999-9999-9999-999999999999")) },
			pod: map[string]string{"keyvaultName": "elsewhere"}, wantCode: codes.PermissionDenied, wantReason: "WrongTenant"},
		{name: "vault/token rejected", prepare: func(w *world) { w.SetTokenLifetime(-time.Hour) }, wantCode: codes.Unauthenticated, wantReason: "TokenRejected"},
		{name: "vault/400", prepare: withFault(azuretest.GetSecret, azuretest.Fault{Status: 400}), wantCode: codes.InvalidArgument, wantReason: "VaultRefused"},
		{name: "vault/429", prepare: withFault(azuretest.GetSecret, azuretest.Fault{Status: 429}), wantCode: codes.FailedPrecondition, wantReason: "Throttled"},
		{name: "vault/503", prepare: withFault(azuretest.GetSecret, azuretest.Fault{Status: 503}), wantCode: codes.FailedPrecondition, wantReason: "ServiceUnavailable"},
		{name: "vault/page of a proxy", prepare: withFault(azuretest.GetSecret, azuretest.Fault{HTML: true, Status: 404}), wantCode: codes.FailedPrecondition, wantReason: "ServiceUnavailable"},
		{name: "vault/page with status 403", prepare: withFault(azuretest.GetSecret, azuretest.Fault{HTML: true, Status: 403}), wantCode: codes.PermissionDenied, wantReason: "AccessDenied"},
		{name: "vault/page with status 401", prepare: withFault(azuretest.GetSecret, azuretest.Fault{HTML: true, Status: 401}), wantCode: codes.Unauthenticated, wantReason: "TokenRejected"},
		{name: "vault/page with status 200", prepare: withFault(azuretest.GetSecret, azuretest.Fault{HTML: true}), wantCode: codes.FailedPrecondition, wantReason: "ServiceUnavailable"},
		{name: "vault/no PKCS#12", prepare: managed("application/x-pkcs12", "CANARY"), wantCode: codes.FailedPrecondition, wantReason: "ContentInvalid"},
		{name: "vault/no PKCS#12 behind base64", prepare: managed("application/x-pkcs12", "Q0FOQVJZ"), wantCode: codes.FailedPrecondition, wantReason: "ContentInvalid"},
		{name: "vault/unknown content type", prepare: managed("text/plain", "CANARY"), wantCode: codes.FailedPrecondition, wantReason: "ContentInvalid"},
		{name: "vault/no content type", prepare: managed("", "CANARY"), wantCode: codes.FailedPrecondition, wantReason: "ContentInvalid"},
		{name: "vault/PEM not decodable", pod: map[string]string{"objects": fmt.Sprintf(objectOf, "objectEncoding: hex")}, prepare: managed("application/x-pem-file", "CANARY"),
			wantCode: codes.FailedPrecondition, wantReason: "ContentInvalid"},
		{name: "vault/key of another type", pod: map[string]string{"objects": aKey}, prepare: func(w *world) {
			w.vault.Grant(clientID, azuretest.KeysGet)
			w.vault.SetKey("my-key", azuretest.Key{Kty: "oct-HSM"})
		}, wantCode: codes.FailedPrecondition, wantReason: "ContentInvalid"},
		{name: "vault/no role for keys", pod: map[string]string{"objects": aKey}, wantCode: codes.PermissionDenied, wantReason: "AccessDenied"},
		{name: "vault/no role for certificates", pod: map[string]string{"objects": aCert}, wantCode: codes.PermissionDenied, wantReason: "AccessDenied"},
		{name: "vault/may not list", pod: map[string]string{"objects": fmt.Sprintf(objectOf, "objectVersionHistory: 3")}, wantCode: codes.PermissionDenied, wantReason: "AccessDenied"},
		{name: "vault/no version", pod: map[string]string{"objects": fmt.Sprintf(objectOf, "objectVersionHistory: 3, objectVersion: 0123")},
			prepare: func(w *world) { w.vault.Grant(clientID, azuretest.SecretsList) }, wantCode: codes.NotFound, wantReason: "ObjectNotFound"},
		{name: "vault/no version, strictly", pod: map[string]string{"objects": "[{objectName: a, objectType: secret}, {objectName: my-secret, objectType: secret, objectVersionHistory: 3, objectVersion: 0123}]"},
			setup:   setup{mounter: func(m *provider.Mounter) { m.StrictObjects = true }},
			prepare: func(w *world) { w.vault.Grant(clientID, azuretest.SecretsList) }, wantCode: codes.InvalidArgument, wantReason: "InvalidParameter"},
		{name: "vault/under another type", pod: map[string]string{"objects": "[{objectName: my-secret, objectType: key}]"},
			prepare: func(w *world) { w.vault.Grant(clientID, azuretest.KeysGet) }, wantCode: codes.NotFound, wantReason: "ObjectNotFound"},
		{name: "vault/content not decodable", pod: map[string]string{"objects": fmt.Sprintf(objectOf, "objectEncoding: base64")},
			wantCode: codes.FailedPrecondition, wantReason: "ContentInvalid"},
		{name: "vault/too large", setup: setup{config: func(c *server.Config) { c.MaxResponseBytes = 20 }}, wantCode: codes.FailedPrecondition, wantReason: "TooLarge"},
	}
}

const (
	aKey  = "[{objectName: my-key, objectType: key}]"
	aCert = "[{objectName: my-cert, objectType: cert}]"
)

// managed puts a certificate behind my-secret.
func managed(contentType, value string) func(*world) {
	return func(w *world) {
		w.vault.SetSecret("my-secret", azuretest.Secret{Value: value, ContentType: contentType, KID: "https://contoso.vault.azure.net/keys/my-secret/1"})
	}
}

func networkFailures() []failure {
	// The pool traces its dial before it fails.
	only := func(host string, err error) func(http.RoundTripper) http.RoundTripper {
		return func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(req *http.Request) (*http.Response, error) {
				if req.URL.Host == host {
					httptrace.ContextClientTrace(req.Context()).GetConn("proxy.contoso.example:3128")
					return nil, err
				}
				return next.RoundTrip(req)
			})
		}
	}
	vaultOnly := func(err error) func(http.RoundTripper) http.RoundTripper { return only("contoso.vault.azure.net", err) }
	entraOnly := func(err error) func(http.RoundTripper) http.RoundTripper {
		return only("login.microsoftonline.com", err)
	}
	short := func(c *server.Config) { c.MountTimeout = 300 * time.Millisecond }
	return []failure{
		{name: "network/no such vault", pod: map[string]string{"keyvaultName": "nowhere"}, wantCode: codes.NotFound, wantReason: "VaultNotFound"},
		{name: "network/TLS not trusted", setup: setup{roundTripper: vaultOnly(x509.UnknownAuthorityError{})}, wantCode: codes.FailedPrecondition, wantReason: "TLSUntrusted"},
		{name: "network/refused", setup: setup{roundTripper: vaultOnly(&net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED})},
			wantCode: codes.FailedPrecondition, wantReason: "ServiceUnavailable"},
		{name: "network/proxy unavailable", setup: setup{roundTripper: vaultOnly(&net.OpError{Op: "proxyconnect", Net: "tcp", Err: syscall.ECONNREFUSED})},
			wantCode: codes.FailedPrecondition, wantReason: "ProxyRefused"},
		{name: "network/authority not in DNS", setup: setup{roundTripper: entraOnly(&net.DNSError{IsNotFound: true})},
			wantCode: codes.FailedPrecondition, wantReason: "ServiceUnavailable"},
		{name: "network/vault stalls", setup: setup{config: short}, prepare: withFault(azuretest.GetSecret, azuretest.Fault{Stall: true}),
			wantCode: codes.FailedPrecondition, wantReason: "Timeout"},
		{name: "network/Entra stalls", setup: setup{config: short}, prepare: withFault(azuretest.Token, azuretest.Fault{Stall: true}),
			wantCode: codes.FailedPrecondition, wantReason: "Timeout"},
		{name: "bug/panic in a read", setup: setup{mounter: func(m *provider.Mounter) { m.Vaults = nil }}, wantCode: codes.Internal, wantReason: "Internal"},
		{name: "bug/panic in a mount", setup: setup{config: func(c *server.Config) { c.Mounter = panicking{} }}, wantCode: codes.Internal, wantReason: "Internal"},
		{name: "bug/untyped error", setup: setup{config: func(c *server.Config) { c.Mounter = failing{errors.New("CANARY")} }}, wantCode: codes.Internal, wantReason: "Internal"},
		{name: "bug/untyped deadline", setup: setup{config: func(c *server.Config) { c.Mounter = failing{context.DeadlineExceeded} }}, wantCode: codes.FailedPrecondition, wantReason: "Timeout"},
	}
}

// page is what another server answers in the place of the node's metadata service.
func page(status int, body, header, value string) func(*world) {
	return withFault(azuretest.Identity, azuretest.Fault{Status: status, Body: body, Header: http.Header{header: {value}}})
}

func withFault(k azuretest.Kind, f azuretest.Fault) func(*world) {
	return func(w *world) { w.SetFault(k, f) }
}

// TestFailures reaches every status a user can meet over the real socket. The
// messages are in a golden file, so that a review shows each change of them.
func TestFailures(t *testing.T) {
	messages := make(map[string]string)
	for _, f := range failures() {
		t.Run(f.name, func(t *testing.T) {
			w := newWorld(t, f.setup)
			if f.prepare != nil {
				f.prepare(w)
			}
			pod := w.pod
			pod.VolumeAttributes, pod.NodePublishSecret = f.pod, f.secret
			tokens := f.tokens
			if f.bound {
				tokens = w.bindingToken(t, pod)
			}
			req := w.requestFor(t, "one.yaml", pod, tokens)
			req.Attributes = overwrite(t, req.GetAttributes(), f.pod)
			resp, err := w.mount(t, req)
			got := status.Convert(err)
			if resp != nil || got.Code() != f.wantCode || !strings.HasSuffix(got.Message(), "["+f.wantReason+"]") {
				t.Fatalf("got %v: %s, want %s [%s]", got.Code(), got.Message(), f.wantCode, f.wantReason)
			}
			if slices.Contains(unsure, got.Code()) {
				t.Errorf("kubelet treats %v as a mount under way", got.Code())
			}
			checkWords(t, w, req, got.Message())
			if reasons, _ := w.seen.observed(); strings.Contains(reasons, ",") || reasons == "" {
				t.Errorf("observed reasons %q, want one", reasons)
			}
			if !strings.Contains(w.log.String(), `"namespace":"shop"`) && f.name != "parameter/pod namespace missing" && !strings.HasPrefix(f.name, "bug/") {
				t.Errorf("the log does not name the pod's namespace: %s", w.log)
			}
			messages[f.name] = got.Code().String() + "  " + got.Message()
		})
	}
	if t.Failed() {
		return
	}
	var golden strings.Builder
	for _, name := range slices.Sorted(maps.Keys(messages)) {
		fmt.Fprintf(&golden, "%s\n    %s\n", name, messages[name])
	}
	path := filepath.Join("testdata", "messages.golden")
	if *update {
		if err := os.WriteFile(path, []byte(golden.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if golden.String() != string(want) {
		t.Errorf("messages differ from %s; read the change, then go test ./provider/server -run TestFailures -update\n%s", path, golden.String())
	}
}

// unsure are the codes after which kubelet leaves the volume's folder, so that the driver
// lets the pod start with an empty one.
var unsure = []codes.Code{codes.Canceled, codes.DeadlineExceeded, codes.Unavailable, codes.ResourceExhausted, codes.Aborted}

// checkWords checks a message: it is one line, and neither it nor the log contains anything of a
// credential, a secret or a trace.
func checkWords(t *testing.T, w *world, req *v1alpha1.MountRequest, message string) {
	t.Helper()
	if i := strings.IndexFunc(message, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
		t.Errorf("a character at %d does not print: %q", i, message)
	}
	for where, text := range map[string]string{"message": message, "log": w.log.String()} {
		for _, leak := range []string{"CANARY", "Hello!", "eyJ", "Trace ID", "trace_id", "RESPONSE ", "Bearer"} {
			if strings.Contains(text, leak) {
				t.Errorf("the %s contains %q: %s", where, leak, text)
			}
		}
	}
	known := strings.ToLower(req.GetAttributes() + req.GetTargetPath() + clientID)
	for _, id := range guids.FindAllString(message, -1) {
		if !strings.Contains(known, strings.ToLower(id)) && id != "99999999-9999-9999-9999-999999999999" {
			t.Errorf("the message contains a GUID that is no tenant or client: %s", id)
		}
	}
}
