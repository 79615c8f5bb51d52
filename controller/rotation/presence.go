package rotation

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/identity"
	"github.com/ovlnet/ovl/internal/store"
)

// ControllersPrefix is where each running controller says what it does:
// <instance>, on a lease of its own. Controllers alone may read or write it.
const ControllersPrefix = store.Root + "controllers/"

// presenceTTL is for how long a controller that stopped counts.
const presenceTTL = 15 * time.Second

// maxPresence bounds a record, in bytes.
const maxPresence = 2 << 10

// presence is what a controller says of itself.
type presence struct {
	Name    string   `json:"name"`
	Trusted []string `json:"trusted"` // the CAs in force there, the issuing one first
}

func encodePresence(name string, trusted []identity.Print) ([]byte, error) {
	return json.Marshal(presence{Name: name, Trusted: identity.FormatPrints(trusted)})
}

// DecodePresence returns the name of a controller, and the CAs in force there.
func DecodePresence(r store.Record) (name string, trusted []identity.Print, err error) {
	var p presence
	if len(r.Value) > maxPresence {
		return "", nil, fmt.Errorf("decode %.160q: %d bytes, want at most %d", r.Key, len(r.Value), maxPresence)
	}
	if err := json.Unmarshal(r.Value, &p); err != nil {
		return "", nil, fmt.Errorf("decode %.160q: %w", r.Key, err)
	}
	if err = cluster.CheckName(p.Name); err == nil {
		trusted, err = identity.ParsePrints(p.Trusted)
	}
	if err != nil {
		return "", nil, fmt.Errorf("decode %.160q: %w", r.Key, err)
	}
	return p.Name, trusted, nil
}

// attend keeps this controller's record as it is, until ctx is done; then it goes.
func (r *Rotation) attend(ctx context.Context) {
	var lease store.LeaseID
	var said []identity.Print
	wait := time.Duration(0)
	changed := r.Keys.Credential.Changed()
	for {
		select {
		case <-time.After(wait):
		case <-changed:
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), again)
			defer cancel()
			if lease != 0 {
				_ = r.Store.Revoke(last, lease) // or it ends by itself
			}
			return
		}
		changed = r.Keys.Credential.Changed() // before it is read
		before := said
		var err error
		if lease, said, err = r.present(ctx, lease, said); err != nil && ctx.Err() == nil {
			r.Log.Debug("cannot say which CAs are in force here", slog.Any("err", err))
		}
		if !slices.Equal(before, said) {
			r.poke()
		}
		wait = presenceTTL / 3
		if err != nil {
			wait = again
		}
	}
}

// present renews the lease, and writes the record where it is not as said.
func (r *Rotation) present(ctx context.Context, lease store.LeaseID, said []identity.Print) (store.LeaseID, []identity.Print, error) {
	ctx, cancel := context.WithTimeout(ctx, presenceTTL/3)
	defer cancel()
	if lease != 0 {
		if _, err := r.Store.KeepAlive(ctx, lease); err != nil {
			return 0, nil, err // a new lease next time
		}
	}
	now := r.Keys.InForce()
	if lease != 0 && slices.Equal(now, said) {
		return lease, said, nil
	}
	if lease == 0 {
		var err error
		if lease, err = r.Store.Grant(ctx, presenceTTL); err != nil {
			return 0, nil, err
		}
	}
	value, err := encodePresence(r.Controller, now)
	if err == nil {
		_, err = r.Store.Txn(ctx, nil, []store.Write{store.Put(r.key, value, lease)})
	}
	if err != nil {
		return lease, nil, err
	}
	return lease, now, nil
}

// newKey names a running controller.
func newKey() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return ControllersPrefix + hex.EncodeToString(b[:])
}

// controllersBehind returns those others that do not do as the record says: this one
// does before it looks.
func (r *Rotation) controllersBehind(records []store.Record, a identity.Authorities) []Laggard {
	var all []Laggard
	for _, rec := range records {
		if !strings.HasPrefix(rec.Key, ControllersPrefix) || rec.Key == r.key {
			continue
		}
		name, trusted, err := DecodePresence(rec)
		if err != nil || slices.Equal(trusted, a.Trusted) {
			continue
		}
		all = append(all, Laggard{Who: identity.Who{Role: identity.Controller, Name: name}, Name: name, Lacks: "the key of the CA with fingerprint " + a.Newest().String() + ": ovlctl --controller " + name + " ca rotate --ca-cert FILE --ca-key FILE"})
	}
	return all
}
