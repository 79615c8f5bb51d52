package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/ovlnet/ovl/controller/roll"
	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/identity"
	"github.com/ovlnet/ovl/internal/store"
	"github.com/ovlnet/ovl/internal/store/etcd"
)

// The pause between two attempts to put etcd's users in order.
const alignFirst, alignLast = time.Second, time.Minute

// align makes the users of an etcd outside those of the members, once: hosts that
// joined while etcd did not ask, or whose join or removal was cut short. From then
// on joins and removals keep them.
func align(ctx context.Context, b *backend, self string, log *slog.Logger) {
	if b.users == nil {
		return
	}
	told := false
	for pause := alignFirst; ; pause = min(2*pause, alignLast) {
		err := alignOnce(ctx, *b.users, b.kv, self)
		if err == nil || ctx.Err() != nil {
			return
		}
		if !told && errors.Is(err, store.ErrRefused) {
			log.Warn("cannot put etcd's users in order: hosts cannot join", slog.String("user", self), slog.Any("err", err))
			told = true
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

func alignOnce(ctx context.Context, users etcd.Users, kv store.KV, self string) error {
	if err := users.Prepare(ctx, self); err != nil {
		return err
	}
	// The users first: who joins meanwhile is a member before he has one.
	have, err := users.Hosts(ctx)
	if err != nil {
		return err
	}
	page, err := kv.Range(ctx, roll.MembersPrefix+string(identity.Host)+"/")
	if err != nil {
		return fmt.Errorf("read members: %w", err)
	}
	var members []cluster.HostID
	for _, r := range page.Records {
		m, err := roll.DecodeMember(r)
		if err != nil {
			continue // shown elsewhere
		}
		id, _ := m.Who.HostID()
		members = append(members, id)
		if err := users.Admit(ctx, id); err != nil {
			return err
		}
	}
	for _, id := range have {
		if !slices.Contains(members, id) {
			if err := users.Expel(ctx, id); err != nil {
				return err
			}
		}
	}
	return nil
}
