package attach

import (
	"context"
	"sync"
)

// keyed is a lock for each key, whose waiters give up with their context. The
// zero value is ready.
type keyed struct {
	mu    sync.Mutex
	slots map[string]*slot
}

type slot struct {
	token chan struct{} // holds the token while the key is free
	users int           // who hold it or wait
}

// lock waits for key and returns what gives it back.
func (k *keyed) lock(ctx context.Context, key string) (unlock func(), err error) {
	s := k.enter(key)
	select {
	case <-s.token:
		return func() { s.token <- struct{}{}; k.leave(key, s) }, nil
	case <-ctx.Done():
		k.leave(key, s)
		return nil, context.Cause(ctx)
	}
}

// try takes key if nobody holds it.
func (k *keyed) try(key string) (unlock func(), ok bool) {
	s := k.enter(key)
	select {
	case <-s.token:
		return func() { s.token <- struct{}{}; k.leave(key, s) }, true
	default:
		k.leave(key, s)
		return nil, false
	}
}

func (k *keyed) enter(key string) *slot {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.slots[key]
	if s == nil {
		s = &slot{token: make(chan struct{}, 1)}
		s.token <- struct{}{}
		if k.slots == nil {
			k.slots = map[string]*slot{}
		}
		k.slots[key] = s
	}
	s.users++
	return s
}

func (k *keyed) leave(key string, s *slot) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if s.users--; s.users == 0 {
		delete(k.slots, key)
	}
}
