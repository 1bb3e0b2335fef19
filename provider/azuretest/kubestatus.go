package azuretest

import (
	"fmt"
	"net/http"
	"strings"
)

const pluginUser = "system:serviceaccount:" + pluginNamespace + ":" + pluginAccount

// kubeStatus is the body of the API server's errors, a Status of meta/v1.
type kubeStatus struct {
	Kind       string       `json:"kind"`
	APIVersion string       `json:"apiVersion"`
	Metadata   struct{}     `json:"metadata"`
	Status     string       `json:"status"`
	Message    string       `json:"message"`
	Reason     string       `json:"reason,omitempty"`
	Details    *kubeDetails `json:"details,omitempty"`
	Code       int          `json:"code"`
}

type kubeDetails struct {
	Name string `json:"name,omitempty"`
	Kind string `json:"kind,omitempty"`
}

func kubeHeader() http.Header {
	return http.Header{
		"Audit-Id": {newUUID()}, "Cache-Control": {"no-cache, private"},
		"X-Kubernetes-Pf-Flowschema-Uid":    {derivedUUID("flowschema")},
		"X-Kubernetes-Pf-Prioritylevel-Uid": {derivedUUID("prioritylevel")},
	}
}

func kubeFailure(status int, reason, message string, details *kubeDetails) reply {
	answer := jsonReply(status, kubeHeader(), kubeStatus{
		Kind: "Status", APIVersion: "v1", Status: "Failure",
		Message: message, Reason: reason, Details: details, Code: status,
	})
	answer.header.Set("Content-Type", "application/json")
	return answer
}

func kubeUnauthorized() reply {
	return kubeFailure(http.StatusUnauthorized, "Unauthorized", "Unauthorized", nil)
}

func kubeForbidden(name, kind, message string) reply {
	return kubeFailure(http.StatusForbidden, "Forbidden", message, &kubeDetails{name, kind})
}

func accountForbidden(namespace, name string) reply {
	return kubeForbidden(name, "serviceaccounts", fmt.Sprintf(
		"serviceaccounts %q is forbidden: User %q cannot get resource \"serviceaccounts\" in API group \"\" in the namespace %q",
		name, pluginUser, namespace))
}

func accountNotFound(name string) reply {
	return kubeFailure(http.StatusNotFound, "NotFound", fmt.Sprintf("serviceaccounts %q not found", name),
		&kubeDetails{name, "serviceaccounts"})
}

// fault is the API server's answer to a fault of a test's choosing.
func (s *APIServer) fault(x *exchange, f Fault) reply {
	namespace, name, _ := parseAccountPath(x.URL.Path)
	switch f.Status {
	case http.StatusUnauthorized:
		return kubeUnauthorized()
	case http.StatusForbidden:
		return accountForbidden(namespace, name)
	case http.StatusNotFound:
		return accountNotFound(name)
	case http.StatusTooManyRequests: // from the filter before everything else, which speaks no JSON
		answer := reply{status: f.Status, header: kubeHeader(), body: []byte("Too many requests, please try again later.\n")}
		answer.header.Set("Content-Type", "text/plain; charset=utf-8")
		return answer
	case http.StatusInternalServerError:
		return kubeFailure(f.Status, "InternalError", "Internal error occurred: etcdserver: no leader", nil)
	case http.StatusServiceUnavailable:
		return kubeFailure(f.Status, "ServiceUnavailable", "the server is currently unable to handle the request", nil)
	case http.StatusGatewayTimeout:
		return kubeFailure(f.Status, "Timeout", "Timeout: request did not complete within the allotted timeout", nil)
	}
	text := http.StatusText(f.Status)
	return kubeFailure(f.Status, strings.ReplaceAll(text, " ", ""), text, nil)
}
