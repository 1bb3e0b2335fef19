// Package kube talks to the cluster's API server as the provider itself: it reads the
// annotations of the pod's ServiceAccount, and makes the TLS connections to the API server's
// address, which on AKS also serves the token proxy. It exists since client-go is too much for
// one GET; see Accounts.get.
package kube

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
)

// ParseURL parses the URL of a server in the cluster to which the provider sends credentials:
// it must be https, and a host with an optional port and path is all that it may contain.
func ParseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil: // its text quotes the URL, which may contain a password
		return nil, errors.New("not a URL")
	case u.Scheme != "https":
		return nil, errors.New("not https")
	case u.Hostname() == "":
		return nil, errors.New("has no host")
	case u.User != nil, u.RawQuery != "", u.ForceQuery, u.Fragment != "":
		return nil, errors.New("must not contain a user, query or fragment")
	}
	return u, nil
}

// readFile reads a file of at most that many bytes.
func readFile(name string, most int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	content, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(content)) > most {
		err = fmt.Errorf("%s is longer than %d bytes", name, most)
	}
	return content, err
}
