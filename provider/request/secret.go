package request

import (
	"fmt"
	"io"
	"log/slog"
)

// Secret is a credential as text: a service-account token or a client secret.
// Printing, logging or marshalling it by accident yields a placeholder. The only way to its
// content is the explicit conversion string(s).
type Secret string

const redacted = "REDACTED"

// String implements [fmt.Stringer].
func (Secret) String() string { return redacted }

// Format implements [fmt.Formatter], since a wrong verb such as %d would not call String.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue implements [slog.LogValuer].
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements [encoding.TextMarshaler], which JSON and YAML use.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
