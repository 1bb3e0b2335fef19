package kube

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
)

// metadata is what is read of a ServiceAccount.
type metadata struct {
	Name        string            `json:"name"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

// parseAccount reads the metadata of the account, and reports whether the body is about that
// account at all.
func parseAccount(body []byte, account accountName) (metadata, bool) {
	var object struct {
		Kind     string   `json:"kind"`
		Metadata metadata `json:"metadata"`
	}
	ok := json.Unmarshal(body, &object) == nil && object.Metadata.Name == account.name &&
		(object.Kind == "PartialObjectMetadata" || object.Kind == "ServiceAccount")
	return object.Metadata, ok
}

// NewAnnotations reads the labels and annotations of a ServiceAccount.
func NewAnnotations(labels, annotations map[string]string) Annotations {
	return metadata{Labels: labels, Annotations: annotations}.identity()
}

// identity is what the account says about its identity.
func (m metadata) identity() Annotations {
	a := Annotations{
		ClientID: Printable(strings.TrimSpace(m.Annotations[ClientIDAnnotation])),
		TenantID: Printable(strings.TrimSpace(m.Annotations[TenantIDAnnotation])),
	}
	if a.ClientID == "" {
		a.NearClientID = m.near(ClientIDAnnotation)
	}
	if a.TenantID == "" {
		a.NearTenantID = m.near(TenantIDAnnotation)
	}
	return a
}

// near finds what may be meant as the annotation: a key that differs from its only in letter
// case and punctuation, a label, or the annotation itself without a value.
func (m metadata) near(want string) string {
	if _, empty := m.Annotations[want]; empty {
		return fmt.Sprintf("empty annotation %q", want)
	}
	for _, in := range []struct {
		kind string
		keys map[string]string
	}{{"annotation", m.Annotations}, {"label", m.Labels}} {
		for _, key := range slices.Sorted(maps.Keys(in.keys)) {
			if letters(key) == letters(want) {
				return fmt.Sprintf("%s %q", in.kind, Printable(key))
			}
		}
	}
	return ""
}

// letters are the letters of a key, in lower case and without the ".io" of many keys.
func letters(key string) string {
	key = strings.Replace(strings.ToLower(key), ".io/", "/", 1)
	return strings.Map(func(r rune) rune {
		if r < 'a' || r > 'z' {
			return -1
		}
		return r
	}, key)
}

// maxPrintable is in characters.
const maxPrintable = 256

// Printable drops characters that do not print, and what is longer than any ID, issuer or
// subject: messages quote these.
func Printable(text string) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, text)
	runes := []rune(text)
	return string(runes[:min(len(runes), maxPrintable)])
}
