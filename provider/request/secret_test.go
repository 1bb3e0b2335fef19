package request_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"akv-csi-provider/provider/request"
)

func TestSecretNeverPrints(t *testing.T) {
	s := request.Secret(canary)
	id := request.Identity{ClientID: clientID, Tokens: map[string]request.Secret{"aud": s}}
	mount := &request.Mount{Identity: id}
	printed := map[string]string{}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%10.3s"} {
		for i, v := range []any{s, &s, []request.Secret{s}, map[request.Secret]int{s: 1}, id, mount.Identity, *mount} {
			printed[fmt.Sprint(verb, i)] = fmt.Sprintf(verb, v)
		}
	}
	printed["json"] = toJSON(t, map[string]any{"mount": mount, "secret": s})
	printed["error"] = fmt.Errorf("wrapped: %v", s).Error()
	for name, handler := range map[string]func(*bytes.Buffer) slog.Handler{
		"text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
		"json": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
	} {
		var b bytes.Buffer
		slog.New(handler(&b)).With("secret", s).Info("m", "mount", mount, "value", *mount, "tokens", id.Tokens, slog.Group("g", "s", s))
		printed["slog "+name] = b.String()
	}
	hexed := fmt.Sprintf("%x", canary[:8])
	for how, text := range printed {
		if strings.Contains(text, canary[:8]) || strings.Contains(strings.ToLower(text), hexed) {
			t.Errorf("%s prints the secret: %s", how, text)
		}
	}
	if !strings.Contains(printed["json"], "REDACTED") || string(s) != canary {
		t.Error("a secret prints as a placeholder and converts to its content")
	}
}
