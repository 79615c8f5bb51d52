package main

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/ovlnet/ovl/controller/roll"
	"github.com/ovlnet/ovl/internal/identity"
	"github.com/ovlnet/ovl/internal/store"
)

// The token with which the first hosts of a cluster join. It ends by itself: one
// that served for ever would be a key of the house under the mat.
const (
	welcomeFile = "join-token" // beside the keys
	welcomeLife = 24 * time.Hour
	welcomeUses = 100
)

// welcome is the token that a controller leaves on its disk when a cluster begins,
// as long as it serves.
type welcome struct {
	path    string
	changed chan struct{} // has a token when other CAs are in force
}

// born makes the token, in the transaction that begins the cluster. The file comes
// first: one without a token behind it is removed at the next start.
func (w welcome) born(a identity.Authorities) ([]store.Write, error) {
	text := identity.NewToken(a.Newest())
	now := time.Now()
	value, err := roll.EncodeToken(roll.Token{
		ID: text.ID, Hash: identity.Hash(text.Secret), Role: identity.Host, Uses: welcomeUses,
		Created: now, Expires: now.Add(welcomeLife), Creator: "first start", CA: text.CA,
	})
	if err == nil {
		err = identity.Write(w.path, []byte(text.String()+"\n"))
	}
	if err != nil {
		return nil, err
	}
	return []store.Write{store.Put(roll.TokenKey(text.ID), value, 0)}, nil
}

// adopted says that other CAs are in force, or any for the first time.
func (w welcome) adopted() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// run says where the token is, and removes the file when it serves no more, until ctx
// is done.
func (w welcome) run(ctx context.Context, kv store.KV, log *slog.Logger) {
	said := false
	for {
		var later <-chan time.Time // never, without a file
		left, err := w.look(ctx, kv)
		switch {
		case err != nil:
			log.Debug("cannot look after the first join token", slog.Any("err", err))
			later = time.After(time.Minute)
		case left > 0:
			later = time.After(min(left, time.Hour))
			if !said {
				log.Info("hosts may join with the token in this file", slog.String("file", w.path), slog.Duration("for", left.Round(time.Second)))
				said = true
			}
		}
		select {
		case <-w.changed:
		case <-later:
		case <-ctx.Done():
			return
		}
	}
}

// look returns how long the token of the file still serves; without one there is no
// file then.
func (w welcome) look(ctx context.Context, kv store.KV) (time.Duration, error) {
	data, err := identity.ReadKey(w.path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	// Who begins the cluster writes the file before the record.
	cas, rev, err := roll.Authorities(ctx, kv)
	if err != nil || rev == 0 {
		return 0, err
	}
	left := time.Duration(0)
	if text, err := identity.ParseToken(string(data)); err == nil {
		r, ok, err := store.Get(ctx, kv, roll.TokenKey(text.ID))
		if err != nil {
			return 0, err
		}
		if t, err := roll.DecodeToken(r); ok && err == nil && (t.Uses == 0 || t.Used < t.Uses) && slices.Contains(cas.Trusted, t.CA) {
			left = time.Until(t.Expires)
		}
	}
	if left > 0 {
		return left, nil
	}
	return 0, os.Remove(w.path)
}
