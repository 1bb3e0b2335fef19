package plugin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"akv-csi-provider/provider"
	"akv-csi-provider/provider/cloud"
	"akv-csi-provider/provider/entra"
	"akv-csi-provider/provider/fair"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/metrics"
	"akv-csi-provider/provider/request"
	"akv-csi-provider/provider/throttle"
)

// azure answers all requests.
type azure func(*http.Request) (status int, body string, err error)

func (a azure) RoundTrip(req *http.Request) (*http.Response, error) {
	time.Sleep(10 * time.Millisecond)
	status, body, err := a(req)
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)), Request: req}, nil
}

// secretOf is a vault's answer to a request.
func secretOf(req *http.Request) string {
	return fmt.Sprintf(`{"value":"v","id":"https://%s%s0123456789abcdef0123456789abcdef"}`, req.URL.Host, req.URL.Path)
}

// circuits is a wired plugin with the lines of its log at the default level.
type circuits struct {
	*provider.Mounter
	log bytes.Buffer // written with the circuit's lock, or that of the semaphore's
	mu  sync.Mutex
}

func (c *circuits) Write(line []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.log.Write(line)
}

func newCircuits(t *testing.T, retries int, a azure) *circuits {
	t.Helper()
	c := new(circuits)
	var err error
	c.Mounter, err = NewMounter(Config{
		Version: "1.2.3", Azure: a, IMDS: a, Log: slog.New(slog.NewJSONHandler(c, nil)), Throttle: throttle.Config{Max: 80, Retries: retries},
		Reads: keyvault.Config{Timeout: time.Minute, Unshared: true}, Mounter: provider.Mounter{MaxBytes: 1, Clouds: new(cloud.Resolver)},
	}, metrics.New("1.2.3"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *circuits) read(ctx context.Context, namespace, vault string) error {
	caller := keyvault.Caller{Principal: keyvault.Principal{TenantID: "t", ClientID: "c"}, Token: "x", Expires: time.Now().Add(time.Hour)}
	object := keyvault.Object{Host: vault + ".vault.azure.net", Type: request.TypeSecret, Name: "s"}
	_, err := c.Vaults.Get(fair.WithTenant(ctx, namespace), caller, object, keyvault.Freshness{NotBefore: time.Now(), Urgent: true})()
	return err
}

// lines are the log's lines so far.
func (c *circuits) lines(t *testing.T) (all []map[string]any) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for line := range strings.Lines(c.log.String()) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		all = append(all, fields)
	}
	return all
}

// A vault that answers every second request with 429 is named, though all mounts succeed: when it
// begins, and when it has been over for a minute.
func TestThrottlingVaultIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		requests := 0
		c := newCircuits(t, 3, func(req *http.Request) (int, string, error) {
			if requests++; req.URL.Host == "contoso.vault.azure.net" && requests%2 == 1 {
				return 429, `{"error":{"code":"Throttled"}}`, nil
			}
			return 200, secretOf(req), nil
		})
		start := time.Now()
		for range 8 {
			if err := c.read(t.Context(), "shop", "contoso"); err != nil {
				t.Fatal(err)
			}
		}
		took := time.Since(start).Seconds()
		if err := c.read(t.Context(), "shop", "fabrikam"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		all := c.lines(t)
		if len(all) != 2 {
			t.Fatalf("%d lines: %v", len(all), all)
		}
		want := map[string]any{"service": "keyvault", "host": "contoso.vault.azure.net", "reason": "Throttled", "status": 429.0, "refused": 0.0}
		for i, more := range []map[string]any{
			{"level": "WARN", "msg": "circuit breaker opened", "openings": 1.0, "durationSeconds": 0.0, "waited": 0.0},
			{"level": "INFO", "msg": "circuit breaker closed", "openings": 8.0, "waited": 8.0},
		} {
			for _, fields := range []map[string]any{want, more} {
				for name, value := range fields {
					if all[i][name] != value {
						t.Errorf("line %d: %s is %v, want %v", i, name, all[i][name], value)
					}
				}
			}
		}
		pause, _ := all[0]["pauseSeconds"].(float64)
		open, _ := all[1]["openSeconds"].(float64)
		lasted, _ := all[1]["durationSeconds"].(float64)
		if pause < 1 || pause != all[0]["openSeconds"] || all[1]["pauseSeconds"] != nil || open < 8 || open > lasted || lasted > took || lasted < took-0.1 {
			t.Errorf("%v s, then %v of %v s of %v s", pause, open, lasted, took)
		}
	})
}

// So are the hosts of sign-ins, with the tenant or the client that they throttle.
func TestThrottlingSignInIsNamed(t *testing.T) {
	person := entra.Identity{Mode: entra.ServicePrincipal, Authority: "https://login.microsoftonline.com", TenantID: "Contoso.com", ClientID: "c", ClientSecret: "x"}
	for _, c := range []struct {
		name  string
		id    entra.Identity
		azure azure
		want  string
	}{
		{"client", person, func(*http.Request) (int, string, error) { return 429, `{"error":"x"}`, nil },
			"map[clientID:c host:login.microsoftonline.com reason:Throttled service:entra status:429 tenantID:Contoso.com]"},
		{"tenant", person, func(*http.Request) (int, string, error) { return 429, `{"error":"x","error_codes":[90055]}`, nil },
			"map[host:login.microsoftonline.com reason:Throttled service:entra status:429 tenantID:Contoso.com]"},
		{"down", person, func(*http.Request) (int, string, error) { return 0, "", syscall.ECONNREFUSED },
			"map[error:no connection to login.microsoftonline.com: connection refused; cluster operator: check the node's route to it (firewall, proxy, private endpoint)" +
				" host:login.microsoftonline.com reason:ServiceUnavailable service:entra tenantID:Contoso.com]"},
		{"metadata service", entra.Identity{Mode: entra.ManagedIdentity}, func(*http.Request) (int, string, error) { return 500, "{}", nil },
			"map[host:169.254.169.254 reason:ServiceUnavailable service:entra status:500]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newCircuits(t, 5, c.azure)
				if _, err := w.SignIn.Token(t.Context(), c.id, "https://vault.azure.net/.default"); err == nil {
					t.Fatal("signed in")
				}
				time.Sleep(time.Hour)
				all := w.lines(t)
				if len(all) != 1 || all[0]["msg"] != "circuit breaker opened" || all[0]["level"] != "WARN" {
					t.Fatalf("got %v", all)
				}
				for _, name := range []string{"time", "level", "msg", "pauseSeconds", "openings", "openSeconds", "durationSeconds", "waited", "refused"} {
					if all[0][name] == nil {
						t.Errorf("no %s", name)
					}
					delete(all[0], name)
				}
				if got := fmt.Sprint(all[0]); got != c.want {
					t.Errorf("got  %s\nwant %s", got, c.want)
				}
			})
		})
	}
}

// A circuit that opens again and again is one line in ten minutes, with what happened since it began.
func TestLongEpisodeIsLoggedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down = true
		c := newCircuits(t, 0, func(req *http.Request) (int, string, error) {
			if down {
				return 503, "{}", nil
			}
			return 200, secretOf(req), nil
		})
		for start := time.Now(); time.Since(start) < 35*time.Minute; time.Sleep(time.Second) {
			_ = c.read(t.Context(), "shop", "contoso")
		}
		down = false
		time.Sleep(time.Minute)
		if err := c.read(t.Context(), "shop", "contoso"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		var got []string
		for _, line := range c.lines(t) {
			got = append(got, fmt.Sprintf("%s %s %v after %.0f min", line["level"], line["msg"], line["status"], line["durationSeconds"].(float64)/60))
			if n := line["openings"].(float64); n > 1 && (n < 30 || line["refused"].(float64)+line["waited"].(float64) < 100) {
				t.Errorf("%v", line)
			}
		}
		const opened = "WARN circuit breaker opened 503 after "
		if want := opened + "0 min, " + opened + "10 min, " + opened + "20 min, " + opened + "30 min, INFO circuit breaker closed 503 after 36 min"; strings.Join(got, ", ") != want {
			t.Errorf("got  %s\nwant %s", strings.Join(got, ", "), want)
		}
	})
}

// A namespace with any number of vaults that throttle neither fills the log nor hides the vault of
// another namespace: that one is named within a minute, and when it responds again.
func TestCircuitLinesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCircuits(t, 0, func(req *http.Request) (int, string, error) {
			if req.URL.Host == "contoso.vault.azure.net" && time.Now().Second() >= 30 || time.Now().Minute()%2 == 1 {
				return 200, secretOf(req), nil
			}
			return 429, "{}", nil
		})
		const minutes = 4
		for start := time.Now(); time.Since(start) < minutes*time.Minute; time.Sleep(5 * time.Second) {
			var group sync.WaitGroup
			for i := range 100 {
				group.Go(func() { _ = c.read(t.Context(), "hostile", fmt.Sprint("evil-", i)) })
			}
			group.Wait()
			_ = c.read(t.Context(), "shop", "contoso")
		}
		time.Sleep(time.Hour)
		var times []time.Time
		hostile, seen, omitted := 0, map[string]int{}, 0.0
		for _, line := range c.lines(t) {
			if line["host"] == "contoso.vault.azure.net" {
				seen[line["msg"].(string)]++
			} else {
				hostile++
			}
			if n, ok := line["omitted"].(float64); ok {
				omitted += n
			}
			at, err := time.Parse(time.RFC3339Nano, line["time"].(string))
			if err != nil {
				t.Fatal(err)
			}
			if times = append(times, at); len(times) > 40 && at.Sub(times[len(times)-41]) < time.Minute {
				t.Fatalf("41 lines in %v", at.Sub(times[len(times)-41]))
			}
		}
		if hostile > 20*(minutes+2) || hostile < 20*minutes/2 || omitted < 100 {
			t.Errorf("%d lines of the hostile namespace, %v omitted", hostile, omitted)
		}
		if seen["circuit breaker opened"] != 2 || seen["circuit breaker closed"] != 2 {
			t.Errorf("of the other namespace's vault: %v", seen)
		}
	})
}

// A line is one line of bounded length, with no text of the other side.
func TestCircuitLinesAreSafe(t *testing.T) {
	deadline := fmt.Errorf("CANARY: %w", context.DeadlineExceeded)
	for name, c := range map[string]struct {
		episode throttle.Episode
		want    string
	}{
		"host":        {throttle.Episode{Service: throttle.Service{Host: "a\nlevel=ERROR msg=CANARY" + strings.Repeat("x", 1<<20)}, Status: 500}, `host="a\nlevel=ERROR msg=CANARY`},
		"error":       {throttle.Episode{Err: errors.New("CANARY")}, "reason=ServiceUnavailable errorType=*errors.errorString "},
		"our error":   {throttle.Episode{Err: &fault.Error{Reason: fault.Timeout, Cause: "timed out", Fix: "wait", Err: errors.New("CANARY")}}, `reason=Timeout error="timed out; wait" `},
		"no time":     {throttle.Episode{Err: deadline}, "reason=Timeout errorType=*fmt.wrapError "},
		"odd status":  {throttle.Episode{Status: 599, Throttled: true}, "reason=Throttled status=599 "},
		"odd tenants": {throttle.Episode{Service: throttle.Service{TenantID: "t\n", ClientID: `c" x=y`}}, `tenantID="t\n" clientID="c\" x=y" `},
	} {
		var out bytes.Buffer
		circuits := newCircuitLog(slog.New(slog.NewTextHandler(&out, nil)))
		circuits.opened("keyvault", &c.episode)
		got := out.String()
		if strings.Count(got, "\n") != 1 || len(got) > 1024 || !strings.Contains(got, c.want) || strings.Count(got, "CANARY") != strings.Count(c.want, "CANARY") {
			t.Errorf("%s: got %.2000s, want %s", name, got, c.want)
		}
	}
}
