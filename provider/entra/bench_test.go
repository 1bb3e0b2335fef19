package entra_test

import (
	"context"
	"testing"
	"time"

	"akv-csi-provider/provider/azuretest"
	"akv-csi-provider/provider/entra"
	"akv-csi-provider/provider/request"
	"akv-csi-provider/provider/transport"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// What a sign-in costs besides waiting. The box answers in the same process, and what it
// signs and verifies is most of the time; Local has answers that cost nothing, so that
// what is left is the SDK and this package.
func BenchmarkSignIn(b *testing.B) {
	w := newWorld(b)
	w.app.Federate(issuer, w.pod.Subject(), entra.Audience)
	assertion, err := w.cluster.Token(w.pod, entra.Audience, 24*time.Hour)
	if err != nil {
		b.Fatal(err)
	}
	id := w.identity(entra.WorkloadIdentity)
	id.Assertion = request.Secret(assertion)
	run := func(name string, sign func() error) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := sign(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	with := func(s entra.Signer) func() error {
		return func() error {
			_, err := s.Token(context.Background(), id, scope)
			return err
		}
	}
	run("Cold", func() error { // a connection and a document that are not there yet
		pool := w.Transport()
		defer pool.CloseIdleConnections()
		x := &entra.Exchange{Transport: transport.New(pool, "test"), Retry: policy.RetryOptions{MaxRetries: -1}}
		return with(x)()
	})
	w.ResetCounts()
	x := w.exchange(b)
	run("Exchange", with(x))
	if n := w.Count(azuretest.Metadata); n > 1 {
		b.Errorf("%d documents", n)
	}
	run("Local", with(exchange(func(string) (int, string) {
		return 200, `{"access_token":"a","expires_in":3600,"token_type":"Bearer"}`
	})))
	cache, err := entra.NewCache(x, entra.CacheConfig{})
	if err != nil {
		b.Fatal(err)
	}
	run("Cached", with(cache))
}
