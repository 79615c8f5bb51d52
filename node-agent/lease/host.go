package lease

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/store"
)

// rival is another host with one of our underlay addresses. Both cannot be
// right, and frames for one would reach the other: we stay out.
type rival struct {
	host  cluster.Host
	addr  netip.Addr
	alive bool
	self  cluster.Host
}

func (r rival) problem() cluster.Problem {
	hint := fmt.Sprintf("host %s is down: if it is gone for good, ovlctl host rm %s", r.host.Name, r.host.Name)
	if r.alive {
		hint = "choose another with --underlay-interface or --underlay-address; under Vagrant with VirtualBox every VM has 10.0.2.15 on its first interface"
	}
	return cluster.Problem{
		Severity: cluster.SeverityError, Subject: "host " + r.self.Name,
		What: fmt.Sprintf("not registered: host %s already has the underlay address %s", r.host.Name, r.addr),
		Hint: hint,
	}
}

// repairHost keeps this host's own record as it should be. Before the record
// says another address than it did, no other host must have that one; and since
// two hosts can look at the same instant, it is looked for again after writing:
// who wrote last withdraws.
func (k *Keeper) repairHost(ctx context.Context) error {
	k.mu.Lock()
	self := k.self
	key := store.HostKey(self.ID)
	rec, exists := k.known.records[key]
	lease, rivaled := k.owner.id, k.rivalStandsLocked()
	k.mu.Unlock()
	if rivaled {
		return k.withdraw(ctx, rec, exists)
	}
	value, err := store.EncodeHost(self)
	k.setInvalid(self, err)
	if err != nil {
		return nil //nolint:nilerr // reported as a problem; trying again would not help
	}
	if value, err = k.seal(key, lease, value); err != nil {
		return err
	}
	if exists && rec.Lease == lease && bytes.Equal(rec.Value, value) {
		k.hostWas = value
		return nil
	}
	meddled := bytes.Equal(k.hostWas, value)
	have, err := store.DecodeHost(rec)
	moved := err != nil || !slices.Equal(have.Underlay, self.Underlay)
	if moved {
		if found, err := k.findRival(ctx, self, 0); found || err != nil {
			return err
		}
	}
	rev, err := k.write(ctx, []store.Cond{store.Unchanged(key, rec.ModRev)}, []store.Write{store.Put(key, value, lease)})
	if err != nil {
		return fmt.Errorf("publish host: %w", k.leased(err))
	}
	if k.hostWas = value; meddled {
		k.meddledWith(key)
	}
	if moved {
		_, err = k.findRival(ctx, self, rev)
	}
	return err
}

// rivalStandsLocked reports whether the rival found earlier still has our
// address; its records are watched. A change of anything ends the verdict, and
// the next look makes a new one.
func (k *Keeper) rivalStandsLocked() bool {
	r := k.place.rival
	if r == nil {
		return false
	}
	h, err := store.DecodeHost(k.known.records[store.HostKey(r.host.ID)])
	_, alive := k.known.records[store.SessionKey(r.host.ID)]
	read := k.known.floor[store.HostKey(r.host.ID)] > 0
	if !read || err == nil && alive == r.alive && slices.Contains(h.Underlay, r.addr) && slices.Contains(k.self.Underlay, r.addr) {
		return true
	}
	k.place.rival = nil
	return false
}

// findRival looks for another host with one of our addresses. With a revision,
// that of our own record, only one that wrote earlier counts.
func (k *Keeper) findRival(ctx context.Context, self cluster.Host, before int64) (bool, error) {
	page, err := k.read(ctx, store.HostsPrefix)
	if err != nil {
		return false, fmt.Errorf("look for our underlay address: %w", err)
	}
	records, err := k.honest(ctx, page.Records)
	if err != nil {
		return false, fmt.Errorf("look for our underlay address: %w", err)
	}
	for _, rec := range records {
		h, err := store.DecodeHost(rec)
		if err != nil || h.ID == self.ID || before > 0 && rec.ModRev > before {
			continue
		}
		i := slices.IndexFunc(self.Underlay, func(a netip.Addr) bool { return slices.Contains(h.Underlay, a) })
		if i < 0 {
			continue
		}
		session, err := k.read(ctx, store.SessionKey(h.ID))
		if err != nil {
			return false, fmt.Errorf("look for host %s: %w", h.Name, err)
		}
		k.mu.Lock()
		k.place.rival = &rival{host: h, addr: self.Underlay[i], alive: len(session.Records) > 0, self: self}
		k.mu.Unlock()
		k.poke() // to watch it, and to withdraw our record
		return true, nil
	}
	return false, nil
}

// withdraw deletes our record: it would claim an address that is another's.
func (k *Keeper) withdraw(ctx context.Context, rec store.Record, exists bool) error {
	if !exists {
		return nil
	}
	_, err := k.write(ctx, []store.Cond{store.Unchanged(rec.Key, rec.ModRev)}, []store.Write{store.Delete(rec.Key)})
	if err != nil {
		return fmt.Errorf("withdraw host: %w", err)
	}
	k.hostWas = nil
	return nil
}

// setInvalid notes why this host's record cannot be written, or that it can.
func (k *Keeper) setInvalid(self cluster.Host, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.invalid = nil
	if err != nil {
		k.invalid = []cluster.Problem{{
			Severity: cluster.SeverityError, Subject: "host " + self.Name,
			What: "not registered: " + err.Error(), Hint: "correct the agent's configuration",
		}}
	}
}
