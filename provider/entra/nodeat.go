package entra

import (
	"errors"
	"net/http"
	"net/url"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// NodeAt sends what is meant for http://169.254.169.254 to another endpoint of the
// node, as AZURE_POD_IDENTITY_AUTHORITY_HOST names it to other tools (azidentity
// does not read that variable). "" leaves requests as they are.
func NodeAt(endpoint string, next policy.Transporter) (policy.Transporter, error) {
	if endpoint == "" {
		return next, nil
	}
	u, err := url.Parse(endpoint)
	if err != nil || !onNode(u) || u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("not http:// and an address of the node (loopback or link-local)")
	}
	return nodeAt{next, u.Host}, nil
}

type nodeAt struct {
	next policy.Transporter
	host string
}

func (n nodeAt) Do(req *http.Request) (*http.Response, error) {
	if req.URL.Hostname() == nodeHost {
		req = req.Clone(req.Context())
		req.URL.Host, req.Host = n.host, ""
	}
	return n.next.Do(req)
}
