package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"akv-csi-provider/provider/azuretest"
)

// control is a client of the fake Azure that does for a pod what the plugin does, without the
// plugin: what it waits for while an attack runs is what the attack takes of this machine, on
// which attackers and Azure run too. On a node they do not.
type control struct {
	client    *http.Client
	form      string // of its sign-ins
	secrets   []string
	mu        sync.Mutex // guards what follows
	latencies []time.Duration
}

func (s *siege) newControl() (*control, error) {
	id := s.newClient()
	s.vault.Grant(id, azuretest.SecretsGet)
	token, err := s.cluster.Token(azuretest.Pod{Namespace: innocentSpace, Name: "control", ServiceAccount: id}, azuretest.TokenExchangeAudience, 2*time.Hour)
	if err != nil {
		return nil, err
	}
	transport := s.box.Transport()
	transport.MaxIdleConnsPerHost = 2 * innocentSecrets
	c := &control{client: &http.Client{Transport: transport, Timeout: allowance}, form: url.Values{
		"client_id": {id}, "grant_type": {"client_credentials"}, "scope": {"https://vault.azure.net/.default"},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}, "client_assertion": {token},
	}.Encode()}
	for i := range innocentSecrets {
		c.secrets = append(c.secrets, s.vault.URL()+"/secrets/"+innocentName(i)+"?api-version=7.5")
	}
	s.closes = append(s.closes, transport.CloseIdleConnections)
	return c, nil
}

// watch reads the innocents' secrets at their usual pace until ctx ends, as [siege.watch] does
// through the plugin. Whether it succeeds does not matter: attacks spoil answers, too.
func (c *control) watch(ctx context.Context) {
	var group sync.WaitGroup
	defer group.Wait()
	for due := time.Now(); ; due = time.Now() {
		group.Go(func() {
			_ = c.read(context.WithoutCancel(ctx))
			c.mu.Lock()
			defer c.mu.Unlock()
			c.latencies = append(c.latencies, time.Since(due))
		})
		if !wait(ctx, usualPace) {
			return
		}
	}
}

// read signs in and reads all secrets.
func (c *control) read(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+entraHost+"/"+tenantID+"/oauth2/v2.0/token", strings.NewReader(c.form))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	body, err := c.do(request)
	if err != nil {
		return err
	}
	var answer struct {
		Token string `json:"access_token"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return err
	}
	errs := make([]error, len(c.secrets))
	var group sync.WaitGroup
	for i, secret := range c.secrets {
		group.Go(func() {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, secret, nil)
			if err == nil {
				request.Header.Set("Authorization", "Bearer "+answer.Token)
				_, err = c.do(request)
			}
			errs[i] = err
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

func (c *control) do(request *http.Request) ([]byte, error) {
	response, err := c.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", request.URL.Path, response.Status)
	}
	return body, err
}

func (c *control) p99() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return percentile(c.latencies, 99)
}
