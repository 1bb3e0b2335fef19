package keyvault_test

import (
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/request"
)

// A caller who joins a read that the vault rejects for its token gets an answer for its own: it may
// have signed in later, as the same principal.
func TestTokenOfAnotherIsRejected(t *testing.T) {
	old, renewed := caller("a"), caller("a")
	old.Token = "a token that has ended"
	for name, read := range map[string]func(*testing.T, *keyvault.Reader, keyvault.Caller) error{
		"value": func(t *testing.T, r *keyvault.Reader, c keyvault.Caller) error {
			_, err := r.Get(t.Context(), c, object(request.TypeSecret, "s"), later())()
			return err
		},
		"versions": func(t *testing.T, r *keyvault.Reader, c keyvault.Caller) error {
			_, err := r.Versions(t.Context(), c, object(request.TypeSecret, "s"), 2, later())()
			return err
		},
	} {
		inBubble(t, name, func(t *testing.T) {
			requests := 0
			r := reader(t, 1, func(req *http.Request) (*http.Response, error) {
				requests++
				time.Sleep(rtt)
				if req.Header.Get("Authorization") == "Bearer "+string(old.Token) {
					return answer(http.StatusUnauthorized, `{"error":{"code":"Unauthorized","message":"[TokenExpired]"}}`)
				}
				if name == "versions" {
					return answer(http.StatusOK, `{"value":[]}`)
				}
				return secret(req, "v")
			})
			var first sync.WaitGroup
			first.Go(func() { wantReason(t, read(t, r, old), fault.TokenRejected) })
			synctest.Wait()
			if err := read(t, r, renewed); err != nil || requests != 2 {
				t.Errorf("got %v after %d requests", err, requests)
			}
			first.Wait()
		})
	}
}
