package throttle_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"akv-csi-provider/provider/throttle"
)

// recovered sends a request and returns what it panics with.
func recovered(ctx context.Context, c client) (value any) {
	defer func() { value = recover() }()
	_, _ = c.get(ctx, "x")
	return nil
}

// A panic of the code that explains a failure costs its own request, and neither a place nor
// the probe: the requests after it are sent.
func TestPanicWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(reply{status: 429})
		th := throttle.New(throttle.Config{Max: 1})
		c := newClient(th, s)
		if status, err := c.get(t.Context(), "x"); status != 429 || err != nil {
			t.Fatalf("got %d, %v", status, err)
		}
		s.set(reply{})
		broken := throttle.WithTrace(t.Context(), urgency(urgent), func(error) error { panic("a bug") })
		if recovered(broken, c) == nil {
			t.Error("no panic")
		}
		time.Sleep(time.Minute)
		checkFree(t, th)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if status, err := c.get(ctx, "x"); status != 200 || err != nil {
			t.Errorf("after the panic: got %d, %v", status, err)
		}
	})
}

// So does a panic of the code that observes the circuit.
func TestPanicOfTheObserver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(reply{status: 429})
		th := throttle.New(throttle.Config{Max: 1, OnOpen: func(*throttle.Episode) { panic("a bug") }})
		c := newClient(th, s)
		if recovered(t.Context(), c) == nil {
			t.Error("no panic")
		}
		s.set(reply{})
		time.Sleep(time.Minute)
		checkFree(t, th)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if status, err := c.get(ctx, "x"); status != 200 || err != nil {
			t.Errorf("after the panic: got %d, %v", status, err)
		}
	})
}
