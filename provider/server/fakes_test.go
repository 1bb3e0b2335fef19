package server_test

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"regexp"
	"testing"
	"time"

	"akv-csi-provider/provider"
	"akv-csi-provider/provider/request"
)

var guids = regexp.MustCompile(`[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}`)

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

type panicking struct{}

func (panicking) Mount(context.Context, *request.Mount, time.Time) (*provider.Volume, error) {
	panic("CANARY")
}

type failing struct{ err error }

func (f failing) Mount(context.Context, *request.Mount, time.Time) (*provider.Volume, error) {
	return nil, f.err
}

// held blocks every mount until it is released or the mount's time is up.
type held struct {
	entered chan struct{}
	release chan struct{}
}

func newHeld() held {
	return held{entered: make(chan struct{}, 16), release: make(chan struct{})}
}

func (h held) Mount(ctx context.Context, _ *request.Mount, _ time.Time) (*provider.Volume, error) {
	h.entered <- struct{}{}
	select {
	case <-h.release:
		return &provider.Volume{Versions: []provider.Version{{ID: "secret/x", Version: "1"}}}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// overwrite changes attributes past what kubelet would let a user change.
func overwrite(t *testing.T, attributes string, with map[string]string) string {
	t.Helper()
	var m map[string]string
	if err := json.Unmarshal([]byte(attributes), &m); err != nil {
		t.Fatal(err)
	}
	maps.Copy(m, with)
	out, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
