package azuretest

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// randomHex returns n random hexadecimal digits.
func randomHex(n int) string {
	b := make([]byte, (n+1)/2)
	_, _ = rand.Read(b) // never fails: crypto/rand aborts the program instead
	return hex.EncodeToString(b)[:n]
}

// newUUID returns a random UUID (RFC 9562, version 4), the form of Azure's request and trace IDs.
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return formatUUID(b)
}

// derivedUUID gives the same names the same UUID, so that an object ID survives a restart of the fake.
func derivedUUID(names ...string) string {
	sum := sha256.Sum256(mustJSON(names))
	return formatUUID([16]byte(sum[:16]))
}

func formatUUID(b [16]byte) string {
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// mustJSON marshals values of this package and the SDK's models, which cannot fail.
func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("azuretest: marshal %T: %v", v, err))
	}
	return b
}

// rawJSON marks a body that is JSON already.
func rawJSON(b []byte) json.RawMessage { return b }
