package entra

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"akv-csi-provider/provider/gate"
	"akv-csi-provider/provider/transport"
)

// explainNode says why the node's metadata service gave no token. The error of
// azidentity is not looked at: way and record know more.
func explainNode(ctx context.Context, record *transport.Record, way *nodeOnly, s signIn) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	var network *transport.Error
	switch {
	case way.strayed:
		return notTheNode(s)
	case errors.As(record.Err, &network):
		return unreachable(network, "let the provider's pods reach the node's metadata service without a proxy"+
			" (network policies, AKS' IMDS restriction); nodes outside Azure have none")
	case record.Err != nil:
		return record.Err
	case way.refusal != nil:
		return way.refusal.explain(s)
	case ctx.Err() != nil:
		return transport.Timeout(nodeHost, transport.PhaseSignIn)
	}
	return &Error{reason: ReasonServiceUnavailable, verdict: notTheService,
		cause: s.host() + " sent something that is not an answer of the node's metadata service",
		fix:   "check what else answers at that address"}
}

// unreachable gives a failure of the network the fix that fits the place.
func unreachable(network *transport.Error, fix string) error {
	e := *network
	e.Fix = fix
	return &e
}

// explain turns a refusal into an *Error. What was asked for is in the message: the
// mode by its parameter, and the client ID that was sent.
func (r *nodeRefusal) explain(s signIn) error {
	answer := status(r.status)
	switch {
	case r.status == http.StatusTooManyRequests:
		e := throttled(s)
		e.verdict = gate.Verdict{News: gate.Busy, Rest: r.rest}
		return e
	case r.status == http.StatusGone || r.status >= http.StatusInternalServerError:
		return &Error{reason: ReasonServiceUnavailable, verdict: gate.Verdict{News: gate.Away, Rest: r.rest},
			cause: fmt.Sprintf("the node's metadata service answers %s", answer),
			fix:   "it is tried again with the next mount"}
	}
	e := &Error{reason: ReasonManagedIdentityUnavailable, Code: aadsts(r.Description)}
	e.verdict.Again = r.status == http.StatusNotFound // while it is being updated
	switch {
	case strings.Contains(r.Description, "Multiple user assigned identities"):
		e.cause = "the node has several user-assigned identities, and useVMManagedIdentity without userAssignedIdentityID names none of them"
		e.fix = "set userAssignedIdentityID to a client ID that az vmss identity show lists"
	case strings.Contains(r.Description, "Identity not found") && s.ClientID != "":
		e.cause = fmt.Sprintf("no identity with client ID %q (%s) is assigned to the node", s.ClientID, s.clientIDFrom())
		e.fix = "assign it to the node's scale set: az vmss identity assign -g GROUP -n SCALESET --identities RESOURCE_ID; or correct userAssignedIdentityID"
	case strings.Contains(r.Description, "Identity not found"):
		e.cause = "the node has no system-assigned identity, which useVMManagedIdentity without userAssignedIdentityID asks for"
		e.fix = "set userAssignedIdentityID to the client ID of an identity of the node, or give the scale set one: az vmss identity assign -g GROUP -n SCALESET"
	case r.Error == "invalid_resource":
		e.cause = fmt.Sprintf("the tenant of %s does not know the resource %q (useVMManagedIdentity)", s, strings.TrimSuffix(s.scope, "/.default"))
		e.fix = "check that cloudName is the cloud of the node"
	default:
		if oauthError(r.Error) {
			answer += ", " + r.Error
		}
		if e.Code != 0 {
			answer += fmt.Sprintf(", AADSTS%d", e.Code)
		}
		e.cause = fmt.Sprintf("the node's metadata service refuses a token for %s (useVMManagedIdentity): %s", s, answer)
		e.fix = "check userAssignedIdentityID and the identities that az vmss identity show lists"
	}
	return e
}

// aadsts is the number with which Entra begins its descriptions, 0 without one. IMDS
// passes those on, but not always the list of numbers.
func aadsts(description string) int {
	digits, found := strings.CutPrefix(description, "AADSTS")
	digits, _, ended := strings.Cut(digits, ":")
	number, err := strconv.ParseUint(digits, 10, 31)
	if !found || !ended || err != nil {
		return 0
	}
	return int(number)
}

func (s signIn) clientIDFrom() string {
	if s.ClientIDFrom == "" {
		return "userAssignedIdentityID"
	}
	return s.ClientIDFrom
}

// notTheNode is the error of a provider whose environment sends it elsewhere.
func notTheNode(s signIn) error {
	return &Error{reason: ReasonManagedIdentityUnavailable,
		cause: fmt.Sprintf("the environment of the provider leads to another endpoint than the node's for %s (useVMManagedIdentity)", s),
		fix:   "remove IDENTITY_ENDPOINT, IDENTITY_HEADER, IMDS_ENDPOINT, MSI_ENDPOINT and MSI_SECRET from its DaemonSet"}
}
