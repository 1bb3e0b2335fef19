package entra

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/request"
	"akv-csi-provider/provider/throttle"
)

// passing are answers of Entra that another attempt within seconds does not get.
func transient() map[string]func() (*http.Response, error) {
	all := map[string]func() (*http.Response, error){
		"reset": func() (*http.Response, error) { return nil, io.ErrUnexpectedEOF },
		"cut":   func() (*http.Response, error) { return answer(200, `{"acc`), io.ErrUnexpectedEOF },
	}
	for name, body := range map[string]string{"429": `{"error":"x"}`, "429 tenant": `{"error":"x","error_codes":[90055]}`, "408": "", "500": "", "502": "<p>", "503": "<p>", "504": ""} {
		code := 0
		_, _ = fmt.Sscan(name, &code)
		all[name] = func() (*http.Response, error) { return refuse(code, "", body) }
	}
	for _, code := range []int{70021, 700211, 700212, 700213, 7002137, 70025, 50166, 501661, 90061, 900612, 90006, 90012, 90024, 90033} {
		body := fmt.Sprintf(`{"error":"invalid_client","error_codes":[%d]}`, code)
		all[fmt.Sprint("AADSTS", code)] = func() (*http.Response, error) { return refuse(401, "", body) }
	}
	all["temporarily_unavailable"] = func() (*http.Response, error) { return refuse(400, "", `{"error":"temporarily_unavailable"}`) }
	return all
}

// No single transient answer fails a sign-in, whenever it comes.
func TestOneTransientAnswerFailsNoSignIn(t *testing.T) {
	for name, once := range transient() {
		t.Run(name, func(t *testing.T) {
			for bad := 1; bad <= 8; bad++ {
				synctest.Test(t, func(t *testing.T) {
					x := exchangeOf(t, &service{answer: func(n int) (*http.Response, error) {
						if n == bad {
							return once()
						}
						return good()
					}})
					for i := range 8 {
						if _, err := x.Token(t.Context(), client(WorkloadIdentity, fmt.Sprint(i)), vault); err != nil {
							t.Errorf("answer %d: %v", bad, err)
						}
					}
				})
			}
		})
	}
}

// A refusal that passes is no failure of the service: others do not wait for it, however many
// clients are refused, and no circuit opens.
func TestRefusalsOpenNoCircuit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &service{answer: func(int) (*http.Response, error) { return refuse(401, "", `{"error":"x","error_codes":[700213]}`) }}
		x := exchangeOf(t, s)
		x.cfg.Throttle.OnOpen = func(*throttle.Episode) { t.Error("a circuit opened") }
		for i := range 20 {
			go func() { _, _ = x.Token(t.Context(), client(WorkloadIdentity, fmt.Sprint(i)), vault) }()
		}
		synctest.Wait()
		time.Sleep(time.Minute)
		if s.asked() != 60 {
			t.Errorf("%d requests", s.asked())
		}
	})
}

// A caller whose time ends between two attempts gets the refusal, and so does one that waits
// for another's sign-in; --retry-max bounds these attempts too.
func TestCallerThatCannotWaitForARetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &service{answer: func(int) (*http.Response, error) { return refuse(401, "", `{"error":"x","error_codes":[700213]}`) }}
		x := exchangeOf(t, s)
		c := cacheOf(t, x, CacheConfig{})
		for _, signIn := range []func(context.Context, Identity, string) (Token, error){x.Token, c.Token} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := signIn(ctx, person(WorkloadIdentity).Identity, vault); !fault.Is(err, fault.FederatedCredentialMissing) {
				t.Errorf("got %v", err)
			}
			time.Sleep(time.Minute)
		}
		leaving, leave := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, leave)
		if _, err := x.Token(leaving, person(WorkloadIdentity).Identity, vault); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		for retries, attempts := range []int{1, 2, 3, 3} {
			s := &service{answer: s.answer}
			x := exchangeOf(t, s)
			x.cfg.Throttle = throttle.Config{Max: 8, Retries: retries}
			if _, err := x.Token(t.Context(), person(WorkloadIdentity).Identity, vault); err == nil || s.asked() != attempts {
				t.Errorf("with %d retries: %d attempts, %v", retries, s.asked(), err)
			}
		}
	})
}

// Only the message of a refusal that may be transient says so.
func TestMessageOfATransientRefusal(t *testing.T) {
	passes := []int{70021, 700211, 700212, 700213, 7002137, 70025, 50166, 501661, 90061, 900612}
	for code := range assertionRefusals {
		err := person(WorkloadIdentity).refused(answer(401, fmt.Sprintf(`{"error":"x","error_codes":[%d]}`, code)))
		if strings.Contains(err.Error(), "if just created, wait") != slices.Contains(passes, code) {
			t.Errorf("%d: %v", code, err)
		}
	}
}

// Where the list of numbers is missing, the description has one.
func TestNumberOfTheDescription(t *testing.T) {
	for description, want := range map[string]fault.Reason{
		"AADSTS700213: No matching federated identity record found.": fault.FederatedCredentialMissing,
		"AADSTS90061: Request to External OIDC endpoint failed.":     fault.IssuerUnreachable,
		"AADSTS90002: Tenant not found.":                             fault.TenantNotFound,
		"AADSTS65001: x":                                             fault.SignInFailed,
	} {
		err := person(WorkloadIdentity).refused(answer(400, fmt.Sprintf(`{"error":"invalid_request","error_description":%q}`, description)))
		e, ok := errors.AsType[*fault.Error](err)
		if number, _, _ := strings.Cut(description, ":"); !ok || e.Reason != want || fmt.Sprintf("AADSTS%d", e.AADSTS) != number {
			t.Errorf("%s: got %v", description, err)
		}
	}
}

// A reason of client secrets is for sign-ins with one.
func TestReasonsOfClientSecrets(t *testing.T) {
	byCertificate := person(ServicePrincipal)
	byCertificate.ClientSecret, byCertificate.ClientCertificate = "", "certificate"
	for _, codes := range [][]int{{70002, 50012}, {70002}, {7000215}, {7000222}, {50012}} {
		list, err := json.Marshal(codes)
		if err != nil {
			t.Fatal(err)
		}
		body := fmt.Sprintf(`{"error":"invalid_client","error_codes":%s}`, list)
		for _, s := range []signIn{person(WorkloadIdentity), person(IdentityBinding), byCertificate} {
			if err := s.refused(answer(401, body)); fault.Is(err, fault.ClientSecretInvalid, fault.ClientSecretExpired) {
				t.Errorf("%s, %v: %v", s.Mode, codes, err)
			}
		}
	}
	body := `{"error":"invalid_client","error_codes":[70002,50012]}`
	if err := person(ServicePrincipal).refused(answer(401, body)); !fault.Is(err, fault.ClientSecretInvalid) {
		t.Errorf("got %v", err)
	}
	if err := person(WorkloadIdentity).refused(answer(401, body)); !fault.Is(err, fault.TokenInvalid) {
		t.Errorf("got %v", err)
	}
	if err := byCertificate.refused(answer(401, body)); !strings.Contains(err.Error(), "rejected the clientcertificate") {
		t.Errorf("got %v", err)
	}
}

// White space around a client secret is most often why Entra rejects it.
func TestHintAboutWhiteSpace(t *testing.T) {
	for secret, hint := range map[string]bool{"hush": false, "hu sh": false, "hush\n": true, "hush\r\n": true, "hush ": true, " hush": true} {
		s := person(ServicePrincipal)
		s.ClientSecret = request.Secret(secret)
		err := s.refused(answer(401, `{"error":"invalid_client","error_codes":[7000215]}`))
		if strings.Contains(err.Error(), "white space") != hint || strings.Contains(err.Error(), "hush") {
			t.Errorf("%q: %v", secret, err)
		}
	}
}
