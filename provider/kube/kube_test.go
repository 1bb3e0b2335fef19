package kube_test

import (
	"strings"
	"testing"

	"akv-csi-provider/provider/kube"
)

func TestParseURL(t *testing.T) {
	for _, text := range []string{
		"http://kubernetes", "kubernetes", "https://", "https://u:CANARY@kubernetes", "https://u:CANARY@kube rnetes", "https://kubernetes?q",
		"https://kubernetes?", "https://kubernetes#f", "https://a b", "://",
	} {
		if _, err := kube.ParseURL(text); err == nil || strings.Contains(err.Error(), "CANARY") {
			t.Errorf("%q: got %v", text, err)
		}
	}
	for _, text := range []string{"https://10.0.0.1", "https://[fd00::1]:6443", "https://kubernetes.default.svc.cluster.local:443/proxy"} {
		if u, err := kube.ParseURL(text); err != nil || u.String() != text {
			t.Errorf("%q: got %s, %v", text, u, err)
		}
	}
}
