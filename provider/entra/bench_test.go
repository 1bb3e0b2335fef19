package entra_test

import (
	"context"
	"testing"
	"time"

	"akv-csi-provider/provider/azuretest"
	"akv-csi-provider/provider/entra"
	"akv-csi-provider/provider/request"
)

// What a sign-in costs besides waiting: over a connection and with a document that are
// there, and from the cache. The box answers in the same process, and signs its tokens.
func BenchmarkSignIn(b *testing.B) {
	w := newWorld(b)
	w.app.Federate(issuer, w.pod.Subject(), entra.Audience)
	assertion, err := w.cluster.Token(w.pod, entra.Audience, 24*time.Hour)
	if err != nil {
		b.Fatal(err)
	}
	id := w.identity(entra.WorkloadIdentity)
	id.Assertion = request.Secret(assertion)
	x := w.exchange(b)
	cache, err := entra.NewCache(x, entra.CacheConfig{})
	if err != nil {
		b.Fatal(err)
	}
	for name, signer := range map[string]entra.Signer{"Exchange": x, "Cached": cache, "Local": local(b, w)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := signer.Token(context.Background(), id, scope); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	if n := w.Count(azuretest.Metadata); n > 1 {
		b.Errorf("%d documents", n)
	}
}

// local is an exchange whose answers cost nothing: what is left is the SDK and us.
func local(b *testing.B, w *world) *entra.Exchange {
	return exchange(func(string) (int, string) {
		return 200, `{"access_token":"a","expires_in":3600,"token_type":"Bearer"}`
	})
}
