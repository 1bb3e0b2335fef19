package keyvault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/transport"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// question is what a caller reads from a vault: all that the errors of the answer depend on.
type question struct {
	Object
	principal Principal
	access    access
}

// access is what is done with an object.
type access int

const (
	accessGet      access = iota
	accessVersions        // its versions
	accessObjects         // the objects of its type; it has no name
)

// errorBody is Key Vault's error JSON ("Authentication, requests and responses" of
// its REST API).
type errorBody struct {
	Error struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Inner   struct {
			Code string `json:"code"`
		} `json:"innererror"`
	} `json:"error"`
}

// maxErrorText bounds each text of an error. Those of Key Vault have less than a KiB. Searching half
// a megabyte for all that a message may say takes seconds of processor time.
const maxErrorText = 4 << 10

// readError reads the body of an error; an HTML page leaves it empty.
func readError(body []byte) (b errorBody) {
	_ = json.Unmarshal(body, &b)
	for _, text := range []*string{&b.Error.Code, &b.Error.Message, &b.Error.Inner.Code} {
		*text = (*text)[:min(len(*text), maxErrorText)]
	}
	return b
}

// explain turns an error of the SDK's clients into a *fault.Error. The SDK's text is never
// used: it has many lines, with times and trace IDs.
func (q question) explain(err error) error {
	return fault.WithIDs(q.explained(err), idsOf(err))
}

// idsOf are the IDs of the response that the error is about.
func idsOf(err error) (ids fault.RequestIDs) {
	if rejected, ok := errors.AsType[*unauthorized](err); ok {
		return rejected.ids
	}
	if refused, ok := errors.AsType[*azcore.ResponseError](err); ok && refused.RawResponse != nil {
		return transport.RequestIDs(refused.RawResponse.Header)
	}
	return ids
}

func (q question) explained(err error) error {
	var (
		rejected *unauthorized
		refused  *azcore.ResponseError
		network  *fault.Error
	)
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.As(err, new(bug)):
		return err
	case errors.As(err, &rejected):
		return q.tokenRejected(rejected)
	case errors.As(err, &refused):
		return q.refused(refused)
	case errors.As(err, &network):
		return networkError(network, q.Object)
	case errors.Is(err, context.DeadlineExceeded):
		return networkError(transport.Timeout(q.Host, transport.PhaseRead), q.Object)
	case errors.Is(err, errNotIssued):
		return q.notIssued("{objects} in %s is not issued yet")
	case errors.Is(err, errTooMany) && q.access == accessObjects:
		return q.fault(fault.VaultRefused, fmt.Sprintf("%s has more %ss than the %d that find reads, or more tags", q.Host, q.Type.Word(), maxPages*pageSize),
			"list the objects by objectName instead")
	case errors.Is(err, errTooMany):
		return q.fault(fault.VaultRefused,
			fmt.Sprintf("{objects} in %s has more than the %d versions that are read to find the newest", q.Host, maxPages*pageSize),
			"remove objectVersionHistory")
	}
	return q.foreignAnswer(fault.ServiceUnavailable, "")
}

// fault is an error that names the object.
func (q question) fault(reason fault.Reason, cause, fix string) *fault.Error {
	return &fault.Error{Reason: reason, Cause: cause, Fix: fix, Objects: []string{q.Object.String()}}
}

// networkError adds the object to the error of a vault that did not answer. o may name the
// host alone.
func networkError(network *fault.Error, o Object) error {
	e := *network
	e.Objects = []string{o.String()}
	if o.Name != "" {
		e.Cause = "{objects}: " + e.Cause
	}
	if transport.IsHostNotFound(e.Err) {
		e.Reason = fault.VaultNotFound
		e.Fix = "check keyvaultName and cloudName; Azure admin: for a private endpoint, add its record to the private DNS zone of the node's network"
	}
	return &e
}

// notIssued is the error of a certificate that its issuer has not issued, or of what Key Vault
// stores with it.
func (q question) notIssued(cause string) error {
	return q.fault(fault.ContentInvalid, fmt.Sprintf(cause, q.Host),
		fmt.Sprintf("kubelet retries; status: `az keyvault certificate pending show --vault-name %s --name %s`", q.vaultName(), q.Name))
}

// vaultName is the vault's own name, for commands.
func (q question) vaultName() string {
	name, _, _ := strings.Cut(q.Host, ".")
	return name
}

// refused explains a response that is not an object.
func (q question) refused(r *azcore.ResponseError) error {
	var (
		body   errorBody
		header http.Header
	)
	if r.RawResponse != nil {
		header = r.RawResponse.Header
		if text, err := runtime.Payload(r.RawResponse); err == nil {
			body = readError(text)
		}
	}
	unavailable := q.fault(fault.ServiceUnavailable, fmt.Sprintf("%s returned %s for {objects}", q.Host, transport.Status(r.StatusCode)),
		"kubelet retries; if it persists, check the Azure status page")
	switch status, known := r.StatusCode, body.Error.Code != ""; {
	case status == http.StatusTooManyRequests:
		return q.fault(fault.Throttled, q.Host+" is throttling requests and did not return {objects} in time",
			"kubelet retries; if it persists, restart fewer pods at once, or use more vaults; or, cluster operator: raise the driver's --rotation-poll-interval")
	case status == http.StatusRequestTimeout, status >= http.StatusInternalServerError && (status != http.StatusNotImplemented || !known):
		return unavailable
	case !known && status == http.StatusForbidden:
		return q.foreignAnswer(fault.AccessDenied, transport.Describe(status, header))
	case !known:
		return q.foreignAnswer(fault.ServiceUnavailable, transport.Describe(status, header))
	case status == http.StatusNotFound:
		return q.fault(fault.ObjectNotFound, "not found in "+q.Host+": {objects}",
			"check keyvaultName, objectName, objectType and objectVersion; Azure admin: recover what is soft-deleted")
	case status == http.StatusForbidden:
		return q.forbidden(header, body)
	case status == http.StatusBadRequest:
		return q.badRequest(body)
	case status == http.StatusConflict:
		return q.fault(fault.VaultRefused, fmt.Sprintf("%s rejected the request for {objects} (409 %s)", q.Host, body.code()),
			"kubelet retries; if it persists, Azure admin: recover it")
	default:
		return q.fault(fault.VaultRefused, fmt.Sprintf("%s rejected the request for {objects} (%d %s)", q.Host, status, body.code()),
			checkVault+"; cluster operator: check proxies")
	}
}

// badRequest explains a 400.
func (q question) badRequest(body errorBody) error {
	if named, refused := body.refusedVersion(); refused {
		cause := q.Host + " supports none of the provider's API versions for {objects}"
		if named != "" {
			cause = fmt.Sprintf("%s offers API version %s but rejected the request for {objects}", q.Host, named)
		}
		return q.fault(fault.VaultRefused, cause, checkVault+"; cluster operator: update the cloud or the provider")
	}
	fix := "check objectName and objectVersion"
	if q.access == accessObjects {
		fix = checkVault
	}
	return q.fault(fault.VaultRefused, fmt.Sprintf("%s: bad request for {objects} (%s)", q.Host, body.code()), fix)
}

const (
	checkVault   = "check keyvaultName and cloudName"
	checkProxies = "cluster operator: check private DNS and proxies"
)

// foreignAnswer is the error of a response that is not from Key Vault, such as a proxy's page.
// Where it is safer, its reason is the one that the same status has from a vault. answer is what
// came, see [transport.Describe]; "" if that is not known.
func (q question) foreignAnswer(reason fault.Reason, answer string) error {
	if answer != "" {
		answer = " (" + answer + ")"
	}
	return q.fault(reason, fmt.Sprintf("something other than Key Vault responded at %s for {objects}%s", q.Host, answer), checkProxies)
}

var (
	akvNumber = regexp.MustCompile(`AKV[0-9]{5}`)

	guid   = `[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}`
	tenant = regexp.MustCompile(`authorization(?:_uri)?="https://[^/"]+/(` + guid + `)`)
)

// tokenRejected explains a 401. Each request has a token, so it is one for another tenant,
// audience or cloud, or the vault cannot check it.
func (q question) tokenRejected(u *unauthorized) error {
	if u.unknownKey {
		return q.fault(fault.ServiceUnavailable, fmt.Sprintf("%s cannot verify the token of %s for {objects}: unknown signing key (AKV10046)", q.Host, q.principal.name()),
			"kubelet retries; if it persists, check the Azure status page")
	}
	if strings.Contains(u.body.Error.Message, "AKV10032") {
		at, is := "", "another tenant"
		if m := tenant.FindStringSubmatch(u.challenge); m != nil {
			is = fmt.Sprintf("tenant %q", m[1])
			at = " (" + is + ")"
		}
		if q.principal.Authority == Node {
			return q.fault(fault.WrongTenant, fmt.Sprintf("%s%s rejected {objects} for %s, which is of another tenant", q.Host, at, q.principal),
				"use workload identity with a client of the vault's tenant")
		}
		return q.fault(fault.WrongTenant, fmt.Sprintf("%s is in %s and rejected {objects} for a token of tenant %q", q.Host, is, q.principal.TenantID),
			"use an identity of the vault's tenant, and set tenantID to it")
	}
	if u.body.Error.Code == "" && !strings.Contains(u.challenge, "authorization") {
		return q.foreignAnswer(fault.TokenRejected, u.answer)
	}
	why := ""
	if number := akvNumber.FindString(u.body.Error.Message); number != "" {
		why = " (" + number + ")"
	}
	fix := "check cloudName and tenantID"
	if q.principal.Authority == Node {
		fix = "check cloudName"
	}
	return q.fault(fault.TokenRejected, fmt.Sprintf("%s rejected the token of %s for {objects}%s", q.Host, q.principal.name(), why),
		fix+"; cluster operator: check the node's clock")
}

var codeWord = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9]{0,63}$`)

// code returns the inner code, or else the outer one, if it is a word and so safe to show.
func (b errorBody) code() string {
	for _, text := range []string{b.Error.Inner.Code, b.Error.Code} {
		if codeWord.MatchString(text) {
			return text
		}
	}
	return "BadRequest"
}

// NoVersions is the error of an object of which its vault lists no enabled version.
func NoVersions(o Object) *fault.Error {
	version := o.Version
	o.Version = ""
	name := o.String()
	if version != "" {
		name += " from " + version + " on"
	}
	return &fault.Error{Reason: fault.ObjectNotFound,
		Cause:   o.Host + " has no enabled version of {objects} (objectVersionHistory)",
		Fix:     "check objectName, objectType and objectVersion",
		Objects: []string{name}}
}
