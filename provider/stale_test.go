package provider_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"akv-csi-provider/provider/keyvault"
)

// silent is a vault that does not answer: it returns what it answered before when the
// caller's time is up, as keyvault.Reader does with StaleIfError.
type silent struct{ *vaults }

func (*silent) Get(ctx context.Context, _ keyvault.Caller, o keyvault.Object, _ keyvault.Freshness) func() (keyvault.Value, error) {
	return func() (keyvault.Value, error) {
		<-ctx.Done()
		if errors.Is(ctx.Err(), context.Canceled) {
			return keyvault.Value{}, ctx.Err()
		}
		return keyvault.Value{Version: "1", Text: "old " + o.Name, Stale: true}, nil
	}
}

// A stale answer comes when the mount's time is up, and is still a volume: the deadline of a
// mount is earlier than its caller's.
func TestStaleAnswersAtTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMounter(&signIn{}, nil)
		m.Vaults = &silent{new(vaults)}
		req := parse(t, "[{objectName: a, objectType: secret}, {objectName: b, objectType: secret}]", nil)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
		defer cancel()
		volume, err := m.Mount(ctx, req, time.Time{})
		if err != nil || len(volume.Files) != 2 || string(volume.Files[1].Content) != "old b" || len(volume.ValueWarnings) != 2 {
			t.Errorf("got %+v, %v", volume, err)
		}
		ctx, leave := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, leave)
		if volume, err := m.Mount(ctx, req, time.Time{}); !errors.Is(err, context.Canceled) {
			t.Errorf("after leaving: got %+v, %v", volume, err)
		}
	})
}
