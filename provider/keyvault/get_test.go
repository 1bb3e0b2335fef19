package keyvault_test

import (
	"fmt"
	"net/http"
	"testing"

	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/request"
)

// What is no version of Key Vault's is not taken for one: it would be sent, logged and
// reported to the driver.
func TestVersionIDsAreChecked(t *testing.T) {
	for _, id := range []string{"..", "a%0ab", "%1b", "%ff", "a-b", "a_b", "01234567890123456789012345678901234567890123456789012345678901234"} {
		url := "https://contoso.vault.azure.net/secrets/my-secret/" + id
		r := reader(t, 1, func(req *http.Request) (*http.Response, error) {
			if req.URL.Path == "/secrets/my-secret/versions" {
				return answer(http.StatusOK, fmt.Sprintf(`{"value":[{"id":%q,"attributes":{}},{"id":"https://contoso.vault.azure.net/secrets/my-secret/a1","attributes":{}}]}`, url))
			}
			return answer(http.StatusOK, fmt.Sprintf(`{"value":"v","id":%q}`, url))
		})
		o := object(request.TypeSecret, "my-secret")
		got, err := r.Get(t.Context(), caller("a"), o, fresh())()
		if err == nil {
			t.Errorf("%s: got %+v", id, got)
			continue
		}
		wantReason(t, err, fault.ServiceUnavailable)
		if all, err := r.Versions(t.Context(), caller("a"), o, 9, fresh())(); err != nil || len(all) != 1 || all[0] != "a1" {
			t.Errorf("%s: listed %q, %v", id, all, err)
		}
	}
}
