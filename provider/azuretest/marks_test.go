package azuretest

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"testing"
)

// A mark is found in each form, whole or cut after 16 bytes, and nowhere else.
func TestFindMarks(t *testing.T) {
	mark := `m"/+<& ?>%` + rand.Text()
	binary := make([]byte, 32)
	_, _ = rand.Read(binary)
	forms := map[string]func(string) string{
		"raw":      func(s string) string { return s },
		"hex":      func(s string) string { return hex.EncodeToString([]byte(s)) },
		"HEX":      func(s string) string { return fmt.Sprintf("%X", s) },
		"decimal":  func(s string) string { return fmt.Sprint([]byte(s)) },
		"query":    url.QueryEscape,
		"path":     url.PathEscape,
		"Go":       strconv.Quote,
		"Go twice": func(s string) string { return strconv.Quote(strconv.Quote(s)) },
		"form":     func(s string) string { return url.Values{"client_secret": {s}}.Encode() },
		"PEM": func(s string) string {
			return string(pem.EncodeToMemory(&pem.Block{Type: "KEY", Bytes: []byte(strings.Repeat("x", 37) + s)}))
		},
		"PEM in Go": func(s string) string {
			return strconv.Quote(string(pem.EncodeToMemory(&pem.Block{Type: "KEY", Bytes: []byte(strings.Repeat("x", 38) + s)})))
		},
	}
	for offset := range 3 {
		before := strings.Repeat("x", 3+offset)
		forms[fmt.Sprint("base64 at ", offset)] = func(s string) string { return base64.StdEncoding.EncodeToString([]byte(before + s + "after")) }
		forms[fmt.Sprint("base64url at ", offset)] = func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(before + s)) }
	}
	for _, mark := range []string{mark, string(binary)} {
		for name, form := range forms {
			for _, part := range []string{mark, mark[:16]} {
				if len(FindMarks([]byte("before "+form(part)+" after"), []string{"another", mark})) == 0 {
					t.Errorf("%s: %q is not found in %q", name, part, form(part))
				}
			}
			if got := FindMarks([]byte(form(mark[:8]+"-"+mark[8:])), []string{mark}); got != nil {
				t.Errorf("%s: found %q", name, got)
			}
		}
	}
	encoded, err := json.Marshal(map[string]string{"token": mark})
	if err != nil {
		t.Fatal(err)
	}
	if len(FindMarks(encoded, []string{mark})) == 0 {
		t.Errorf("not found in %s", encoded)
	}
	for _, handler := range []func(*strings.Builder) slog.Handler{
		func(b *strings.Builder) slog.Handler { return slog.NewTextHandler(b, nil) },
		func(b *strings.Builder) slog.Handler { return slog.NewJSONHandler(b, nil) },
	} {
		var b strings.Builder
		slog.New(handler(&b)).Error("x", "error", fmt.Errorf("refused: %s", mark))
		if len(FindMarks([]byte(b.String()), []string{mark})) == 0 {
			t.Errorf("not found in %s", b.String())
		}
	}
	if len(FindMarks([]byte("xCANARYx"), []string{"CANARY"})) != 1 {
		t.Error("a short mark is not found once")
	}
}
