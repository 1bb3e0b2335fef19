package keyvault_test

import (
	"net/http"
	"testing"

	"akv-csi-provider/provider/request"
)

// A secret is converted where the caller requests it, and only there: the two answers are not
// shared.
func TestAsPEM(t *testing.T) {
	r := reader(t, 1, func(req *http.Request) (*http.Response, error) {
		text := "PFX"
		switch out := req.URL.Query().Get("outContentType"); out {
		case "application/x-pem-file":
			text = "PEM"
		case "":
		default:
			t.Errorf("outContentType %q", out)
		}
		return answer(http.StatusOK, `{"value":"`+text+`","id":"https://`+host+`/secrets/tls/`+version+`"}`)
	})
	f := fresh()
	for _, asPEM := range []bool{false, true, false, true} {
		o := object(request.TypeSecret, "tls")
		o.AsPEM = asPEM
		want := map[bool]string{false: "PFX", true: "PEM"}[asPEM]
		if got, err := r.Get(t.Context(), caller("a"), o, f)(); err != nil || got.Text != want || got.Version != version {
			t.Errorf("got %+v %v, want %s", got, err, want)
		}
	}
}

// An empty kid is none: the secret is a plain one.
func TestEmptyKID(t *testing.T) {
	for kid, managed := range map[string]bool{`,"kid":""`: false, "": false, `,"kid":null`: false, `,"kid":"https://` + host + `/keys/tls/` + version + `"`: true} {
		r := reader(t, 1, func(*http.Request) (*http.Response, error) {
			return answer(http.StatusOK, `{"value":"v","id":"https://`+host+`/secrets/tls/`+version+`"`+kid+`}`)
		})
		got, err := r.Get(t.Context(), caller("a"), object(request.TypeSecret, "tls"), fresh())()
		if err != nil || got.Managed != managed {
			t.Errorf("%s: got %+v %v", kid, got, err)
		}
	}
}
