package keyvault

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"akv-csi-provider/provider/request"

	lru "github.com/hashicorp/golang-lru/v2"
)

// Bounds of looking for the type under which a missing object is there: an object
// that stays missing is mounted again and again.
const (
	hintEvery = 10 * time.Minute
	maxHints  = 1024
)

// hints remembers under which type missing objects were found, for each principal
// apart: what one may see must not be told to another.
type hints struct {
	mu    sync.Mutex // for asking once
	known *lru.Cache[hintKey, *hint]
}

type hintKey struct {
	principal Principal
	object    Object
}

// hint is the answer to one question. Its fields may be read once done is closed.
type hint struct {
	asked time.Time
	done  chan struct{}
	found request.Type // "" if under none
}

func newHints() (*hints, error) {
	known, err := lru.New[hintKey, *hint](maxHints)
	if err != nil {
		return nil, fmt.Errorf("remember hints: %w", err)
	}
	return &hints{known: known}, nil
}

// claim returns what is known of the object, and whether the caller must find it
// out and close done.
func (h *hints) claim(key hintKey, now time.Time) (_ *hint, first bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if known, ok := h.known.Get(key); ok && now.Sub(known.asked) < hintEvery {
		return known, false
	}
	fresh := &hint{asked: now, done: make(chan struct{})}
	h.known.Add(key, fresh)
	return fresh, true
}

// kinds are the words for the types in messages.
var kinds = map[request.Type]string{request.TypeSecret: "secret", request.TypeKey: "key", request.TypeCert: "certificate"}

// hint adds to the error of a missing object the other type under which its name
// is there, as far as the caller may see that.
func (r *Reader) hint(ctx context.Context, v *vault, caller Caller, o Object, err error) error {
	var missing *Error
	if !errors.As(err, &missing) || missing.reason != ReasonObjectNotFound {
		return err
	}
	known, first := r.hints.claim(hintKey{caller.Principal, Object{Host: o.Host, Type: o.Type, Name: o.Name}}, r.cfg.Now())
	if first {
		func() {
			defer close(known.done) // whatever happens: others wait for it
			known.found = v.otherType(withCaller(ctx, caller), o)
		}()
	}
	select {
	case <-known.done:
	case <-ctx.Done():
		return err
	}
	if known.found == "" {
		return err
	}
	found := *missing
	found.fix = fmt.Sprintf("a %s of that name is there: set objectType to %s, or check objectName", kinds[known.found], known.found)
	if o.Version != "" {
		found.fix += " and objectVersion"
	}
	return &found
}

// otherType finds the type under which the name is there. A certificate is looked
// for first: Key Vault keeps a key and a secret of the same name with it.
func (v *vault) otherType(ctx context.Context, o Object) request.Type {
	for _, t := range []request.Type{request.TypeCert, request.TypeSecret, request.TypeKey} {
		if t == o.Type {
			continue
		}
		found := false
		_ = v.gate.Do(ctx, func() bool { return false }, func(ctx context.Context) error {
			value, err := v.get(ctx, Object{Host: o.Host, Type: t, Name: o.Name})
			found = err == nil && value.Version != ""
			return classify(err)
		}, judge) // whatever the error, nothing was found
		if found {
			return t
		}
	}
	return ""
}
