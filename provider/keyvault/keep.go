package keyvault

import (
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// keep holds answers for a while, in memory only. It is not safe for concurrent use.
//
// An answer is kept for at most life after its request left, never longer than the
// token that read it, and only while there is room.
type keep[V any] struct {
	life time.Duration // 0 keeps nothing
	room *room
	size func(V) int
	now  func() time.Time

	answers *simplelru.LRU[readKey, answered[V]]
	armed   bool // a sweep is under way
	arm     func(time.Duration)
}

// room is the bytes that all kinds of answers may take together. Its mutex guards the
// kinds that share it too: an answer that one of them evicts makes room for the others.
type room struct {
	mu   sync.Mutex
	left int
}

type answered[V any] struct {
	value V
	left  time.Time // when its request left
	until time.Time
	size  int
}

// perAnswer is about what an answer takes beside its content.
const perAnswer = 512

func newKeep[V any](life time.Duration, room *room, now func() time.Time, size func(V) int, arm func(time.Duration)) (*keep[V], error) {
	k := &keep[V]{life: life, room: room, size: size, now: now, arm: arm}
	const noBound = 1 << 30 // the room is the bound
	answers, err := simplelru.NewLRU(noBound, func(_ readKey, a answered[V]) { room.left += a.size })
	k.answers = answers
	return k, err
}

// get returns the answer if its request left at or after since.
func (k *keep[V]) get(key readKey, since time.Time) (value V, ok bool) {
	a, ok := k.answers.Get(key)
	if !ok || a.left.Before(since) || !k.now().Before(a.until) {
		return value, false
	}
	return a.value, true
}

// put keeps an answer, unless a later one is there: what comes late over the network
// must not bring an older version back.
func (k *keep[V]) put(key readKey, value V, left, expires time.Time) {
	until := left.Add(k.life)
	if expires.Before(until) {
		until = expires
	}
	if old, ok := k.answers.Peek(key); ok && old.left.After(left) {
		return
	}
	k.answers.Remove(key)
	size := k.size(value) + perAnswer
	if !k.now().Before(until) {
		return
	}
	for k.room.left < size {
		if _, _, ok := k.answers.RemoveOldest(); !ok {
			return // larger than all the room, or others have it
		}
	}
	k.room.left -= size
	k.answers.Add(key, answered[V]{value, left, until, size})
	if !k.armed {
		k.armed = true
		k.arm(min(k.life, longestSweep))
	}
}

// longestSweep bounds how long what is over stays in memory.
const longestSweep = time.Minute

func (k *keep[V]) remove(key readKey) { k.answers.Remove(key) }

// sweep forgets what is over, and is to be called again as long as it arms itself.
func (k *keep[V]) sweep() {
	for _, key := range k.answers.Keys() {
		if a, ok := k.answers.Peek(key); ok && !k.now().Before(a.until) {
			k.answers.Remove(key)
		}
	}
	if k.armed = k.answers.Len() > 0; k.armed {
		k.arm(min(k.life, longestSweep))
	}
}
