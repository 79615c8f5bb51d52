package lease

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/store"
)

// How often the session is written at most: when problems changed, and when
// only the applied revision did (jittered).
const (
	problemsEvery = time.Second
	appliedEvery  = 5 * time.Second
)

// place is what this process is in the cluster.
type place struct {
	incumbent bool   // the session of this host's ID is ours
	ever      bool   // it once was, in this run
	other     *other // who has the session instead
	rival     *rival // who has our underlay address
}

// other is an agent that runs under our host's ID: this host's disk, or the
// other's, is a clone.
type other struct {
	self, host cluster.Host
	instance   string
}

func (o other) problem() cluster.Problem {
	who := "instance " + o.instance
	if o.host.Name != "" {
		who = describe(o.host)
	}
	return cluster.Problem{
		Severity: cluster.SeverityError, Subject: describe(o.self),
		What: fmt.Sprintf("another running agent has this host's ID %s: %s", o.self.ID, who),
		Hint: "if this disk is a clone, stop ovl-agent, remove its state directory and start it again; after a reboot wait for the old session to end",
	}
}

func describe(h cluster.Host) string {
	if len(h.Underlay) == 0 {
		return "host " + h.Name
	}
	return "host " + h.Name + " (" + joinAddrs(h.Underlay) + ")"
}

func joinAddrs(as []netip.Addr) string {
	var parts []string
	for _, a := range as {
		parts = append(parts, a.String())
	}
	return strings.Join(parts, ", ")
}

func (k *Keeper) incumbent() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.place.incumbent
}

// holdSession renews the session lease, or makes another one.
func (k *Keeper) holdSession(ctx context.Context) error {
	now := k.cfg.Elapsed()
	if k.loop.session != 0 && now >= k.loop.sessionAt {
		_, err := k.keepAlive(ctx, k.loop.session)
		switch {
		case errors.Is(err, store.ErrLeaseGone):
			k.loop.session = 0
		case err != nil:
			return fmt.Errorf("renew session: %w", err)
		default:
			k.loop.sessionAt = now + jittered(k.cfg.SessionTTL/3)
		}
	}
	if k.loop.session == 0 {
		id, err := k.grant(ctx, k.cfg.SessionTTL)
		if err != nil {
			return fmt.Errorf("make session lease: %w", err)
		}
		k.loop.session = id
		k.loop.sessionAt = now + jittered(k.cfg.SessionTTL/3)
	}
	k.loop.by(k.loop.sessionAt)
	return nil
}

// identify finds out whether this process speaks for its host's ID. The session
// of an earlier process of the same boot is taken over: one host has one
// database, and a second process could not have opened it. Any other session
// must first end, since its agent may be alive on another machine.
func (k *Keeper) identify(ctx context.Context) error {
	k.mu.Lock()
	id := k.self.ID
	rec, exists := k.known.records[store.SessionKey(id)]
	p := k.place
	k.mu.Unlock()
	s, err := store.DecodeSession(rec)
	switch {
	case exists && err == nil && s.Instance == k.cfg.Instance:
		k.setPlace(true, nil)
		return nil
	case exists && err == nil && (s.BootID != k.cfg.BootID || p.ever):
		k.setPlace(false, k.otherAgent(s))
		return nil
	}
	return k.claimSession(ctx, rec.ModRev)
}

// claimSession makes the session ours, if it is still as of revision rev.
func (k *Keeper) claimSession(ctx context.Context, rev int64) error {
	value, err := store.EncodeSession(k.session())
	if err != nil {
		return err
	}
	key := store.SessionKey(k.cfg.Self.ID)
	writes := []store.Write{
		store.Put(key, value, k.loop.session),
		store.Delete(store.CloneKey(k.cfg.Self.ID, k.cfg.Instance)),
	}
	_, err = k.write(ctx, []store.Cond{store.Unchanged(key, rev)}, writes)
	if err != nil {
		return fmt.Errorf("begin session: %w", k.sessionLost(err))
	}
	k.setPlace(true, nil)
	k.wrotePublished()
	return nil
}

// sessionLost notes from a failed write that the session lease is gone.
func (k *Keeper) sessionLost(err error) error {
	if errors.Is(err, store.ErrLeaseGone) {
		k.loop.session = 0
	}
	return err
}

func (k *Keeper) setPlace(incumbent bool, o *other) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.place.incumbent, k.place.other = incumbent, o
	k.place.ever = k.place.ever || incumbent
	if incumbent {
		return
	}
	// What the other does with our records meanwhile we do not know: when this
	// ends, everything is confirmed anew.
	k.place.rival = nil
	k.owner.renewed = false
	k.hostWas = nil
	for key, w := range k.wanted {
		w.stood = false
		k.wanted[key] = w
	}
	for key, r := range k.rows {
		r.confirmed, r.under = false, 0
		k.rows[key] = r
	}
}

// otherAgent describes who has the session.
func (k *Keeper) otherAgent(s cluster.Session) *other {
	k.mu.Lock()
	defer k.mu.Unlock()
	o := &other{self: k.self, instance: s.Instance}
	if h, err := store.DecodeHost(k.known.records[store.HostKey(k.self.ID)]); err == nil {
		o.host = h
	}
	return o
}

// cloneProblemsLocked reports the agents that found our session taken.
func (k *Keeper) cloneProblemsLocked() []cluster.Problem {
	var ps []cluster.Problem
	for key, r := range k.known.records {
		if !strings.HasPrefix(key, store.HostClonesPrefix(k.self.ID)) {
			continue
		}
		s, err := store.DecodeClone(r)
		if err != nil || s.Instance == k.cfg.Instance {
			continue
		}
		who := "instance " + s.Instance
		if len(s.Problems) > 0 {
			who = s.Problems[0].Subject // it describes itself there: see other.problem
		}
		ps = append(ps, cluster.Problem{
			Severity: cluster.SeverityError, Subject: describe(k.self),
			What: fmt.Sprintf("another agent was started under this host's ID %s: %s", k.self.ID, who),
			Hint: "its disk is a clone: stop ovl-agent there, remove its state directory and start it again",
		})
	}
	return ps
}

// session returns what the session's record should say.
func (k *Keeper) session() cluster.Session {
	k.mu.Lock()
	defer k.mu.Unlock()
	problems := append(k.problemsLocked(), k.reported...)
	slices.SortStableFunc(problems, func(a, b cluster.Problem) int { return rank(a.Severity) - rank(b.Severity) })
	return cluster.Session{
		Host: k.self.ID, BootID: k.cfg.BootID, Instance: k.cfg.Instance, Started: k.loop.started,
		AppliedRevision: k.applied, Problems: problems,
	}
}

// publish keeps the session's record as it should be, or, where another agent
// has it, the record by which that agent learns of us.
func (k *Keeper) publish(ctx context.Context) error {
	s := k.session()
	value, err := store.EncodeSession(s)
	if err != nil {
		return err
	}
	key, decode := store.SessionKey(s.Host), store.DecodeSession
	if !k.incumbent() {
		key, decode = store.CloneKey(s.Host, s.Instance), store.DecodeClone
	}
	k.mu.Lock()
	rec, exists := k.known.records[key]
	k.mu.Unlock()
	have, err := decode(rec)
	if exists && err == nil && rec.Lease == k.loop.session {
		if bytes.Equal(rec.Value, value) {
			return nil
		}
		due := k.loop.published + problemsEvery
		if slices.Equal(have.Problems, store.ClipProblems(s.Problems)) {
			due = k.loop.appliedAt
		}
		if k.cfg.Elapsed() < due {
			k.loop.by(due)
			return nil
		}
	}
	_, err = k.write(ctx, []store.Cond{store.Unchanged(key, rec.ModRev)}, []store.Write{store.Put(key, value, k.loop.session)})
	if err != nil {
		return fmt.Errorf("publish session: %w", k.sessionLost(err))
	}
	k.wrotePublished()
	return nil
}

func (k *Keeper) wrotePublished() {
	k.loop.published = k.cfg.Elapsed()
	k.loop.appliedAt = k.loop.published + jittered(appliedEvery*5/4)
}

// leave ends the session, so that the host is seen to be down without waiting
// for the lease to run out. What it owns stays.
func (k *Keeper) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	if k.begin(ctx) != nil {
		return
	}
	defer k.end()
	if k.loop.session == 0 {
		return
	}
	if err := k.cfg.KV.Revoke(ctx, k.loop.session); err != nil {
		k.log.Warn("end session failed; it runs out by itself", "err", err)
	}
	k.loop.session = 0
}
