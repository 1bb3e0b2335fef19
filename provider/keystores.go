package provider

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"akv-csi-provider/provider/coalesce"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/render"
)

// Keystores caches keystores: deriving the keys of one takes tens of milliseconds, which the
// hundreds of pods of a node would each take at each rotation. A keystore is found only with all
// that it is made of, the secret and the password among them, by a hash whose key is this
// process's; so nothing comes from here that the caller has not read itself. Make it with
// NewKeystores. It is safe for concurrent use.
type Keystores struct {
	key   [32]byte
	group *coalesce.Group[[sha256.Size]byte, []render.File]
}

// keystoreTimeout bounds the wait for the processors and the work, for which callers with longer
// deadlines may wait.
const keystoreTimeout = time.Minute

// NewKeystores makes a cache of that many bytes.
func NewKeystores(size int) *Keystores {
	k := &Keystores{group: coalesce.New[[sha256.Size]byte](coalesce.Config[[]render.File]{
		Timeout: keystoreTimeout, Budget: coalesce.NewBudget(size),
		Size: func(files []render.File) int { return 512 + len(files[0].Content) },
	})}
	_, _ = rand.Read(k.key[:]) // never fails
	return k
}

// get returns the keystore of the caller with these ingredients, or else what make renders. It is
// cached as long as the token with which the ingredients were read.
func (k *Keystores) get(ctx context.Context, caller keyvault.Caller, ingredients []string, make func(context.Context) ([]render.File, error)) ([]render.File, error) {
	mac := hmac.New(sha256.New, k.key[:])
	for _, text := range append([]string{caller.Authority, caller.TenantID, caller.ClientID}, ingredients...) {
		mac.Write(binary.BigEndian.AppendUint64(nil, uint64(len(text))))
		mac.Write([]byte(text))
	}
	files, _, err := k.group.Do(ctx, [sha256.Size]byte(mac.Sum(nil)), keyvault.Freshness{}, func(ctx context.Context, _ *coalesce.Call) ([]render.File, coalesce.Life, error) {
		files, err := make(ctx)
		return files, coalesce.Life{Until: caller.Expires}, err
	})
	return files, err
}
