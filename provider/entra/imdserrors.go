package entra

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/transport"
)

// refusedByIMDS explains a response of the instance metadata service that has no token. What
// was requested is in the message: the mode by its parameter, and the ID that was sent.
func (s signIn) refusedByIMDS(resp *http.Response) error {
	answer := transport.Status(resp.StatusCode)
	r, _ := readError(resp)
	s.code = aadstsNumber(r.Description)
	refusal, _ := s.refusalOf(s.code)
	switch {
	case refusal.reason == fault.Throttled: // by Entra; the node does not know the tenant
		refusal.cause = "Entra is throttling sign-ins of {who}"
		if s.code == unavailableToTenant {
			refusal.cause = "Entra is temporarily unavailable to {who} (AADSTS{code})"
		}
		return s.fill(refusal)
	case resp.StatusCode == http.StatusTooManyRequests:
		return s.fill(nodeThrottled)
	case resp.StatusCode == http.StatusGone || resp.StatusCode >= http.StatusInternalServerError || r.unavailable() || refusal.passes:
		return &fault.Error{Reason: fault.ServiceUnavailable, AADSTS: s.code,
			Cause: fmt.Sprintf("the node's metadata service returned %s", answer),
			Fix:   "kubelet retries"}
	case isArc(resp.Header):
		return notAzure(answer, "from an Azure Arc agent", "its identity is not supported; use workload identity (clientID) or a service principal (nodePublishSecretRef)")
	case !ofIMDS(resp.Header, r):
		return notAzure(answer, otherCloud(resp.Header), nodesOnly)
	}
	e := &fault.Error{Reason: fault.ManagedIdentityUnavailable, AADSTS: s.code}
	switch {
	case strings.Contains(r.Description, "Multiple user assigned identities"):
		e.Cause = "the node has several user-assigned identities"
		e.Fix = "set userAssignedIdentityID to the client ID of the one with access to the vault (`az vmss identity show -g GROUP -n SCALESET`)"
	case strings.Contains(r.Description, "Identity not found") && s.ClientID != "":
		e.Cause = "the node has no identity with " + s.named()
		e.Fix = "correct " + s.ClientIDFrom + "; or, cluster operator: `az vmss identity assign -g GROUP -n SCALESET --identities RESOURCE_ID`"
	case strings.Contains(r.Description, "Identity not found"):
		e.Cause = "the node has no system-assigned identity"
		e.Fix = "set userAssignedIdentityID to the client ID of one that the node has; or, cluster operator: `az vmss identity assign -g GROUP -n SCALESET`"
	case r.Error == "invalid_resource":
		e.Cause = fmt.Sprintf("the tenant of %s does not know %q (useVMManagedIdentity)", s, strings.TrimSuffix(s.scope, "/.default"))
		e.Fix = "check cloudName"
	default:
		if oauthError(r.Error) {
			answer += ", " + r.Error
		}
		if e.AADSTS != 0 {
			answer += fmt.Sprintf(", AADSTS%d", e.AADSTS)
		}
		e.Cause = fmt.Sprintf("the node's metadata service rejected the request of %s (useVMManagedIdentity): %s", s, answer)
		e.Fix = "check that `az vmss identity show -g GROUP -n SCALESET` lists userAssignedIdentityID"
	}
	return e
}

const nodesOnly = "useVMManagedIdentity needs an Azure node and no proxy; else use workload identity"

// notAzure is the error of what answers in the place of Azure's metadata service; who is "" if
// it does not say.
func notAzure(answer, who, fix string) error {
	if who != "" {
		answer += " " + who
	}
	return &fault.Error{Reason: fault.ManagedIdentityUnavailable,
		Cause: fmt.Sprintf("%s is not Azure's metadata service (%s)", imdsHost, answer), Fix: fix}
}

// ofIMDS reports whether a response is Azure's: it has an error as JSON, or at least the
// service's name, as while the service is being updated.
func ofIMDS(h http.Header, body errorBody) bool {
	return body.Error != "" || strings.HasPrefix(h.Get("Server"), "IMDS/")
}

// otherCloud names the cloud whose metadata service a response is from, "" if it does not say.
func otherCloud(h http.Header) string {
	switch {
	case strings.HasPrefix(h.Get("Server"), "EC2ws"):
		return "from Amazon EC2"
	case h.Get("Metadata-Flavor") == "Google":
		return "from Google Cloud"
	}
	return ""
}

// isArc reports whether a response is that of the agent on an Azure Arc server, which wants the
// caller to prove that it can read a file of the server.
func isArc(h http.Header) bool {
	realm := strings.ToLower(h.Get("Www-Authenticate"))
	return strings.Contains(realm, "azcmagent") || strings.Contains(realm, "azureconnectedmachineagent")
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

// notOnNode is the error of a provider whose environment redirects it.
func notOnNode(s signIn) error {
	return &fault.Error{Reason: fault.ManagedIdentityUnavailable,
		Cause: fmt.Sprintf("the provider's environment redirects managed identity away from the node's metadata service (useVMManagedIdentity, %s)", s),
		Fix:   "cluster operator: remove IDENTITY_ENDPOINT, IDENTITY_HEADER, IMDS_ENDPOINT, MSI_ENDPOINT and MSI_SECRET from its DaemonSet"}
}
