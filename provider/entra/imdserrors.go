package entra

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"akv-csi-provider/provider/fault"
)

// refusedByIMDS explains a response of the instance metadata service that has no token. What
// was asked for is in the message: the mode by its parameter, and the client ID that was sent.
func (s signIn) refusedByIMDS(resp *http.Response) error {
	answer := status(resp.StatusCode)
	switch {
	case resp.StatusCode == http.StatusTooManyRequests:
		return throttled(s)
	case resp.StatusCode == http.StatusGone || resp.StatusCode >= http.StatusInternalServerError:
		return &fault.Error{Reason: fault.ServiceUnavailable,
			Cause: fmt.Sprintf("the node's metadata service answers %s", answer),
			Fix:   "it is tried again with the next mount"}
	}
	r, _ := readError(resp)
	e := &fault.Error{Reason: fault.ManagedIdentityUnavailable, AADSTS: aadstsNumber(r.Description)}
	switch {
	case strings.Contains(r.Description, "Multiple user assigned identities"):
		e.Cause = "the node has several user-assigned identities, and useVMManagedIdentity without userAssignedIdentityID names none of them"
		e.Fix = "set userAssignedIdentityID to a client ID that az vmss identity show lists"
	case strings.Contains(r.Description, "Identity not found") && s.ClientID != "":
		e.Cause = fmt.Sprintf("no identity with client ID %q (%s) is assigned to the node", s.ClientID, s.clientIDFrom())
		e.Fix = "assign it to the node's scale set: az vmss identity assign -g GROUP -n SCALESET --identities RESOURCE_ID; or correct userAssignedIdentityID"
	case strings.Contains(r.Description, "Identity not found"):
		e.Cause = "the node has no system-assigned identity, which useVMManagedIdentity without userAssignedIdentityID asks for"
		e.Fix = "set userAssignedIdentityID to the client ID of an identity of the node, or give the scale set one: az vmss identity assign -g GROUP -n SCALESET"
	case r.Error == "invalid_resource":
		e.Cause = fmt.Sprintf("the tenant of %s does not know the resource %q (useVMManagedIdentity)", s, strings.TrimSuffix(s.scope, "/.default"))
		e.Fix = "check that cloudName is the cloud of the node"
	default:
		if oauthError(r.Error) {
			answer += ", " + r.Error
		}
		if e.AADSTS != 0 {
			answer += fmt.Sprintf(", AADSTS%d", e.AADSTS)
		}
		e.Cause = fmt.Sprintf("the node's metadata service refuses a token for %s (useVMManagedIdentity): %s", s, answer)
		e.Fix = "check userAssignedIdentityID and the identities that az vmss identity show lists"
	}
	return e
}

// aadstsNumber is the number with which Entra begins its descriptions, 0 without one. IMDS
// passes those on, but not always the list of numbers.
func aadstsNumber(description string) int {
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

// notOnNode is the error of a provider whose environment redirects it.
func notOnNode(s signIn) error {
	return &fault.Error{Reason: fault.ManagedIdentityUnavailable,
		Cause: fmt.Sprintf("the environment of the provider leads to another endpoint than the node's for %s (useVMManagedIdentity)", s),
		Fix:   "remove IDENTITY_ENDPOINT, IDENTITY_HEADER, IMDS_ENDPOINT, MSI_ENDPOINT and MSI_SECRET from its DaemonSet"}
}
