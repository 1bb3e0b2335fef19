package plugin

import (
	"strings"
	"testing"
)

// The user agent is what HTTP can carry, whatever was given.
func TestUserAgent(t *testing.T) {
	ours := userAgent("1.2.3", "")
	if strings.TrimSpace(ours) != ours || !strings.HasPrefix(ours, "akv-csi-provider/"+"1.2.3"+" (") {
		t.Errorf("got %q", ours)
	}
	for custom, want := range map[string]string{
		"'kubernetes.azure.com/managedby: aks'": " 'kubernetes.azure.com/managedby: aks'",
		`"quoted" \ (comment)`:                  ` "quoted" \ (comment)`,
		"two  blanks":                           " two  blanks",
		"  edges ":                              "   edges",
		"x\r\nEvil: header":                     " xEvil: header",
		"tab\tbell\a\x00\x7f":                   " tabbell",
		"über-agent \u200b日本":                   " ber-agent",
		"\xff\xfe":                              "",
		"\n":                                    "",
	} {
		if got := userAgent("1.2.3", custom); got != ours+want {
			t.Errorf("%q: got %q, want %q", custom, got, ours+want)
		}
	}
}
