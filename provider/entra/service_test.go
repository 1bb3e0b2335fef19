package entra

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"akv-csi-provider/provider/throttle"
	"akv-csi-provider/provider/transport"
)

// service is an authority and a metadata service that answer token requests as a test
// says, and note when they came.
type service struct {
	mu     sync.Mutex // guards came
	came   []time.Time
	answer func(n int) (*http.Response, error)

	metadata func(context.Context) (*http.Response, error) // nil, or what it returns, for the usual one
}

func (s *service) RoundTrip(req *http.Request) (*http.Response, error) {
	if strings.HasSuffix(req.URL.Path, metadataSuffix) {
		if s.metadata != nil {
			if resp, err := s.metadata(req.Context()); resp != nil || err != nil {
				return resp, err
			}
		}
		base := "https://" + req.URL.Host + "/t"
		return answer(200, fmt.Sprintf(`{"authorization_endpoint":"%[1]s/a","token_endpoint":"%[1]s/token","issuer":"%[1]s/v2.0"}`, base)), nil
	}
	if req.Method == http.MethodPost { // each attempt presents the credential
		form, err := io.ReadAll(req.Body)
		if err != nil || int64(len(form)) != req.ContentLength || !strings.Contains(string(form), "client_assertion=") && !strings.Contains(string(form), "client_secret=") {
			return nil, fmt.Errorf("a request with %d bytes of %d, %v", len(form), req.ContentLength, err)
		}
	}
	s.mu.Lock()
	s.came = append(s.came, time.Now())
	n := len(s.came)
	s.mu.Unlock()
	select {
	case <-time.After(10 * time.Millisecond):
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
	return s.answer(n)
}

func (s *service) asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.came)
}

// good is a response with a token, of both kinds of services.
func good() (*http.Response, error) {
	return answer(200, fmt.Sprintf(`{"access_token":"a","expires_in":3600,"expires_on":"%d","token_type":"Bearer"}`, time.Now().Add(time.Hour).Unix())), nil
}

func refuse(status int, after, body string) (*http.Response, error) {
	resp := answer(status, body)
	resp.Header = http.Header{}
	if after != "" {
		resp.Header.Set("Retry-After", after)
	}
	return resp, nil
}

// throttledExchange is an exchange with a service whose answers after the first few are good.
func throttledExchange(t testing.TB, first int, status int, after, body string) (*Exchange, *service) {
	s := &service{answer: func(n int) (*http.Response, error) {
		if n <= first {
			return refuse(status, after, body)
		}
		return good()
	}}
	return exchangeOf(t, s), s
}

func exchangeOf(t testing.TB, s *service) *Exchange {
	t.Helper()
	client := transport.New(s, "test").For(transport.PhaseSignIn)
	x, err := NewExchange(Config{Transport: client, IMDS: client, Throttle: throttle.Config{Max: 8, Retries: 3}})
	if err != nil {
		t.Fatal(err)
	}
	return x
}

const always = 1 << 30

// client is person with another client ID.
func client(mode Mode, id string) Identity {
	who := person(mode).Identity
	who.ClientID = id
	return who
}
