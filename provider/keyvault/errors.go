package keyvault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"akv-csi-provider/provider/request"
	"akv-csi-provider/provider/transport"
)

// The reasons of this package's errors.
const (
	ReasonVaultNotFound      = "VaultNotFound"
	ReasonAccessDenied       = "AccessDenied"
	ReasonVaultFirewall      = "VaultFirewall"
	ReasonWrongTenant        = "WrongTenant"
	ReasonTokenRejected      = "TokenRejected"
	ReasonObjectNotFound     = "ObjectNotFound"
	ReasonObjectDisabled     = "ObjectDisabled"
	ReasonVaultRefused       = "VaultRefused"
	ReasonThrottled          = "Throttled"
	ReasonServiceUnavailable = transport.ReasonServiceUnavailable
)

// Object names what was asked of a vault.
type Object struct {
	Host    string // DNS name of the vault
	Type    request.Type
	Name    string
	Version string // "" for the latest
}

// String names the object in messages, without the vault.
func (o Object) String() string {
	if o.Version == "" {
		return fmt.Sprintf("%s %q", o.Type, o.Name)
	}
	return fmt.Sprintf("%s %q version %s", o.Type, o.Name, o.Version)
}

// Error says why a vault did not give objects and what to mend.
type Error struct {
	Objects []Object // that failed for this cause; never empty
	reason  string
	cause   string // with {objects} where they are named, so that equal causes are equal
	fix     string
	err     error // of package transport, if that was the cause
}

// maxNamed bounds the objects named in a message.
const maxNamed = 50

// Error implements error. Its text is one line.
func (e *Error) Error() string {
	named := e.Objects[:min(len(e.Objects), maxNamed)]
	texts := make([]string, len(named), len(named)+1)
	for i, o := range named {
		if texts[i] = o.String(); o.Name == "" { // the vault itself was asked
			texts[i] = "its challenge"
		}
	}
	if rest := len(e.Objects) - len(named); rest > 0 {
		texts = append(texts, fmt.Sprintf("and %d more", rest))
	}
	return strings.Replace(e.cause, "{objects}", strings.Join(texts, ", "), 1) + "; " + e.fix
}

// Reason is the stable word users search for.
func (e *Error) Reason() string { return e.reason }

// Unwrap returns the failure of the network, if that was the cause.
func (e *Error) Unwrap() error { return e.err }

// Cause tells equal failures: two errors with one Cause differ in nothing but
// their objects. It is comparable.
type Cause struct{ reason, cause, fix string }

// Cause returns the error without its objects.
func (e *Error) Cause() Cause { return Cause{e.reason, e.cause, e.fix} }

// Of returns the error for other objects. The error itself stays as it is: it may
// be held by several callers.
func (e *Error) Of(objects []Object) *Error {
	other := *e
	other.Objects = objects
	return &other
}

// answer is Key Vault's error JSON ("Authentication, requests and responses" of
// its REST API).
type answer struct {
	Error struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Inner   struct {
			Code string `json:"code"`
		} `json:"innererror"`
	} `json:"error"`
}

// explain turns a classified error into ours. The SDK's text is never used: it
// spreads over many lines and holds times and trace IDs.
func explain(ctx context.Context, err error, o Object, c Caller, a access) error {
	var (
		rejected *unauthorized
		refused  *refusal
		network  *transport.Error
	)
	switch {
	case errors.As(err, &rejected):
		return rejectedError(rejected, o, c)
	case errors.As(err, &refused):
		return refusalError(refused, o, c, a)
	case errors.As(err, &network):
		return networkError(network, o)
	case ctx.Err() != nil:
		return gaveUp(ctx, o)
	case errors.Is(err, context.DeadlineExceeded): // of one try
		return networkError(transport.Timeout(o.Host, transport.PhaseRead), o)
	case errors.As(err, new(bug)):
		return err
	case errors.Is(err, errTooMany):
		return &Error{Objects: []Object{o}, reason: ReasonVaultRefused,
			cause: fmt.Sprintf("{objects} in %s has more versions than the %d that are looked at for its newest", o.Host, maxPages*pageSize),
			fix:   "remove objectVersionHistory"}
	}
	return notKeyVault(o)
}

// notKeyVault is the error of an answer that is not about the object.
func notKeyVault(o Object) error {
	return &Error{Objects: []Object{o}, reason: ReasonServiceUnavailable,
		cause: o.Host + " sent something for {objects} that is not an answer of Key Vault",
		fix:   "check proxies and private DNS"}
}

// networkError is the error of a vault that gave no answer; o may name the host alone.
func networkError(network *transport.Error, o Object) error {
	e := &Error{Objects: []Object{o}, reason: network.Reason(), cause: network.Cause, fix: network.Fix, err: network}
	if o.Name != "" {
		e.cause = "{objects}: " + e.cause
	}
	if e.reason == transport.ReasonHostNotFound {
		e.reason = ReasonVaultNotFound
		e.fix = "check keyvaultName and cloudName; a vault behind a private endpoint needs its private DNS zone linked to the node's network"
	}
	return e
}

// gaveUp is the error of a caller whose context ended: its own when it went away,
// a timeout that names the object when its time was up.
func gaveUp(ctx context.Context, o Object) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return networkError(transport.Timeout(o.Host, transport.PhaseRead), o)
	}
	return ctx.Err()
}

func refusalError(r *refusal, o Object, c Caller, to access) error {
	a := r.answer
	e := &Error{Objects: []Object{o}}
	switch status := r.status; {
	case status == http.StatusNotFound && a.Error.Code != "":
		e.reason = ReasonObjectNotFound
		e.cause = o.Host + " has no {objects}"
		e.fix = "check objectName, objectType and objectVersion; a deleted object can be recovered"
	case status == http.StatusForbidden && a.Error.Code == "":
		e.reason = ReasonAccessDenied
		e.cause, e.fix = notTheVaults(o.Host, status)
	case status == http.StatusForbidden:
		e.forbidden(a, c.Principal, to)
	case status == http.StatusTooManyRequests:
		e.reason = ReasonThrottled
		e.cause = o.Host + " limits requests and did not give {objects} in time"
		e.fix = "it is tried again with the next mount; spread restarts or use more vaults"
	case status == http.StatusBadRequest && a.Error.Code != "":
		e.reason = ReasonVaultRefused
		e.cause = fmt.Sprintf("%s refuses the request for {objects} as %s", o.Host, word(a.Error.Inner.Code, a.Error.Code))
		e.fix = "check objectName and objectVersion"
	case status >= http.StatusInternalServerError:
		e.reason = ReasonServiceUnavailable
		e.cause = fmt.Sprintf("%s answers %d %s for {objects}", o.Host, status, http.StatusText(status))
		e.fix = "it is tried again with the next mount; check the Azure status page if it stays"
	default:
		e.reason = ReasonServiceUnavailable
		e.cause, e.fix = notTheVaults(o.Host, status)
	}
	return e
}

// notTheVaults is what to say of a refusal that has nothing of Key Vault: a proxy's page, most
// likely. It counts as the vault's all the same where that is the safe side.
func notTheVaults(host string, status int) (cause, fix string) {
	return fmt.Sprintf("%s sent %d %s for {objects}, which is not an answer of Key Vault", host, status, http.StatusText(status)),
		"check proxies and private DNS"
}

var (
	akvNumber = regexp.MustCompile(`AKV[0-9]{5}`)

	guid   = `[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}`
	tenant = regexp.MustCompile(`authorization(?:_uri)?="https://[^/"]+/(` + guid + `)`)
)

// rejectedError explains a 401: with a token of ours in the request it means
// that the token is for another tenant, audience or cloud.
func rejectedError(u *unauthorized, o Object, c Caller) error {
	var a answer
	_ = json.Unmarshal(u.body, &a) // an HTML page leaves it empty
	if strings.Contains(a.Error.Message, "AKV10032") {
		vaultTenant := "another tenant"
		if m := tenant.FindStringSubmatch(u.challenge); m != nil {
			vaultTenant = fmt.Sprintf("tenant %q", m[1])
		}
		e := &Error{Objects: []Object{o}, reason: ReasonWrongTenant,
			cause: fmt.Sprintf("%s belongs to %s and does not give {objects} to a token of tenant %q", o.Host, vaultTenant, c.TenantID),
			fix:   "set tenantID to the tenant of the vault, and use an identity of that tenant"}
		if c.Authority == Node {
			e.cause = fmt.Sprintf("%s belongs to %s and does not give {objects} to %s, which is of another", o.Host, vaultTenant, c.Principal)
			e.fix = "use an identity of the vault's tenant; a node's is of the tenant of its subscription"
		}
		return e
	}
	e := &Error{Objects: []Object{o}, reason: ReasonTokenRejected}
	if a.Error.Code == "" && !strings.Contains(u.challenge, "authorization") {
		e.cause, e.fix = notTheVaults(o.Host, http.StatusUnauthorized)
		return e
	}
	why := ""
	if number := akvNumber.FindString(a.Error.Message); number != "" {
		why = " (" + number + ")"
	}
	e.cause = fmt.Sprintf("%s rejects the access token of %s for {objects}%s", o.Host, c.Principal, why)
	e.fix = "check that cloudName is the cloud of the vault, which decides the token's audience, and the clock of the node"
	return e
}

var codeWord = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9]{0,63}$`)

// word returns the first text that is a code and so safe to show.
func word(texts ...string) string {
	for _, t := range texts {
		if codeWord.MatchString(t) {
			return t
		}
	}
	return "a bad request"
}

// NoVersions is the error of objects whose vault lists no enabled version of them.
func NoVersions(objects []Object) *Error {
	return &Error{Objects: objects, reason: ReasonObjectNotFound,
		cause: objects[0].Host + " has no enabled version of {objects} to mount a history of",
		fix:   "check objectName, objectType and objectVersion"}
}
