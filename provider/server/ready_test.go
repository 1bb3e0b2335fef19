package server_test

import (
	"os"
	"testing"

	"akv-csi-provider/provider/server"
)

// The plugin is ready while the driver can call it: not before it serves, not while its
// socket is removed, and not once it stops.
func TestReady(t *testing.T) {
	cfg := config(t, newHeld())
	idle, err := server.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if idle.Ready(t.Context()) == nil {
		t.Error("ready before it serves")
	}
	srv, stop := start(t, cfg)
	if err := srv.Ready(t.Context()); err != nil {
		t.Errorf("serving: %v", err)
	}
	if err := os.Remove(cfg.Socket); err != nil {
		t.Fatal(err)
	}
	if srv.Ready(t.Context()) == nil {
		t.Error("ready without a socket")
	}
	if err := healthy(t, srv); err != nil { // which creates it again
		t.Fatal(err)
	}
	if err := srv.Ready(t.Context()); err != nil {
		t.Errorf("serving again: %v", err)
	}
	stop()
	if srv.Ready(t.Context()) == nil {
		t.Error("ready after its stop")
	}
}
