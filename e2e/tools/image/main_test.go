package main

import (
	"io"
	"strings"
	"testing"
)

// A mistake on the command line is reported before anything is built.
func TestRefused(t *testing.T) {
	for _, bad := range []string{"", "akv-csi-provider", "registry.example:5000/akv-csi-provider", "Upper/case:v1", "a b:v1", "x:"} {
		if err := run(t.Context(), options{source: "/nowhere", out: t.TempDir(), ref: bad}, io.Discard); err == nil || !strings.Contains(err.Error(), "--ref") {
			t.Errorf("%q: got %v", bad, err)
		}
	}
}
