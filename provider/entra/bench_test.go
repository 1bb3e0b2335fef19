package entra_test

import (
	"context"
	"testing"
	"time"

	"akv-csi-provider/provider/azuretest"
	"akv-csi-provider/provider/entra"
	"akv-csi-provider/provider/request"
	"akv-csi-provider/provider/transport"
)

// What a sign-in costs besides waiting. The fake Azure answers in the same process, and what it
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
	signIn := func(s interface {
		Token(context.Context, entra.Identity, string) (entra.Token, error)
	}) func() error {
		return func() error {
			_, err := s.Token(context.Background(), id, scope)
			return err
		}
	}
	run("Cold", func() error { // a connection and a document that are not there yet
		pool := w.Transport()
		defer pool.CloseIdleConnections()
		return signIn(newExchange(b, entra.Config{Transport: transport.New(pool, "test")}))()
	})
	w.ResetCounts()
	x := w.exchange(b)
	run("Exchange", signIn(x))
	if n := w.Count(azuretest.Metadata); n > 1 {
		b.Errorf("metadata was read %d times", n)
	}
	run("Local", signIn(exchange(b, func(string) (int, string) {
		return 200, `{"access_token":"a","expires_in":3600,"token_type":"Bearer"}`
	})))
	cache, err := entra.NewCache(x, entra.CacheConfig{})
	if err != nil {
		b.Fatal(err)
	}
	run("Cached", signIn(cache))
}
