package azuretest

import "net/http"

// What IMDS says of identities, word for word as users of Azure met it.
const (
	identityNotFound = "Identity not found"
	manyIdentities   = "Multiple user assigned identities exist, please specify the clientId / resourceId of the identity in the token request"
)

// imdsError is the body of IMDS's errors.
type imdsError struct {
	Error       string `json:"error"`
	Description string `json:"error_description,omitempty"`
}

func imdsFailure(status int, code, text string) reply {
	return jsonReply(status, imdsHeader(), imdsError{code, text})
}

// checkIMDSRequest refuses what a request that was forged or forwarded looks like, then what lacks
// parameters.
func checkIMDSRequest(x *exchange) *reply {
	refuse := func(status int, text string) *reply {
		answer := imdsFailure(status, "invalid_request", text)
		return &answer
	}
	query := x.URL.Query()
	switch {
	case x.Header.Get("Metadata") != "true": // in lower case, says the documentation
		return refuse(http.StatusBadRequest, "Required metadata header not specified")
	case x.Header.Get("X-Forwarded-For") != "":
		return refuse(http.StatusBadRequest, "Requests with the header X-Forwarded-For are not allowed")
	case x.Method != http.MethodGet:
		return refuse(http.StatusMethodNotAllowed, "Method not allowed")
	case query.Get("api-version") == "":
		return refuse(http.StatusBadRequest, "Required query variable 'api-version' is missing")
	case query.Get("resource") == "":
		return refuse(http.StatusBadRequest, "Required query variable 'resource' is missing")
	}
	return nil
}

// entraFailure passes on what Entra answered to a token request of IMDS.
func (i *IMDS) entraFailure(x *exchange, app *Application, e *aadsts) reply {
	e.names = append(e.names, "{client}", app.clientID, "{tenant}", app.tenant.id)
	x.place.name = i.box.publicCloud().AuthorityHost
	return passedOn(i.box.entraFailure(x, e))
}

// passedOn is an answer of Entra's under IMDS's own headers.
func passedOn(answer reply) reply {
	return jsonReply(answer.status, imdsHeader(), rawJSON(answer.body))
}

// fault is IMDS's answer to a fault of a test's choosing. Microsoft documents which statuses occur,
// but the bodies of these only for 500. One with an AADSTS number is Entra's, passed on.
func (i *IMDS) fault(x *exchange, f Fault) reply {
	if f.InnerCode != "" {
		var names []string
		if app, _ := i.choose(x.URL.Query()); app != nil {
			names = []string{"{client}", app.clientID, "{tenant}", app.tenant.id}
		}
		x.place.name = i.box.publicCloud().AuthorityHost
		return passedOn(i.box.entraFault(x, f, names...))
	}
	switch f.Status {
	case http.StatusBadRequest:
		return imdsFailure(f.Status, "invalid_request", identityNotFound)
	case http.StatusNotFound, http.StatusGone: // while it is being updated
		return reply{status: f.Status, header: imdsHeader()}
	case http.StatusTooManyRequests:
		return imdsFailure(f.Status, "too_many_requests", "Too many requests")
	}
	return imdsFailure(f.Status, "unknown", "Failed to retrieve token from the Active directory.")
}

func imdsHeader() http.Header {
	return http.Header{"Server": {"IMDS/150.870.65.1253"}, "X-Ms-Request-Id": {newUUID()}}
}
