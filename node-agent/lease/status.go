package lease

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ovlnet/ovl/internal/cluster"
)

// The values of Status.Ownership.
const (
	OwnershipHeld     = "held"     // renewed in this run, and not run out
	OwnershipPending  = "pending"  // not renewed in this run; by the disk not run out
	OwnershipFenced   = "fenced"   // run out, or not all subnets are confirmed since
	OwnershipConflict = "conflict" // another agent runs under this ID or address
)

// Status is the Keeper's own state.
type Status struct {
	Connected bool      // the last call of the store succeeded
	Since     time.Time // connected or not since
	Ownership string
	Until     time.Time // by when ownership ends unless it is renewed; zero = there is none
	Problems  []cluster.Problem
}

// connection remembers since when the store answers, or does not.
type connection struct {
	up    bool
	since time.Time
}

// view is what callers can see, without what changes at every renewal.
type view struct {
	held   []Held
	status Status
}

// Status returns the Keeper's own state.
func (k *Keeper) Status() Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.statusLocked()
}

func (k *Keeper) statusLocked() Status {
	s := Status{Connected: k.link.up, Since: k.link.since, Problems: k.problemsLocked()}
	if k.owner.id != 0 {
		s.Until = time.Now().Add(k.owner.until - k.cfg.Elapsed())
	}
	switch {
	case k.place.rival != nil || k.place.other != nil:
		s.Ownership = OwnershipConflict
	case k.fencedLocked():
		s.Ownership = OwnershipFenced
	case k.owner.renewed:
		s.Ownership = OwnershipHeld
	default:
		s.Ownership = OwnershipPending
	}
	return s
}

// MayAttach returns nil, or why this host must take no new attachments:
// [ErrFenced] or [ErrIdentity].
func (k *Keeper) MayAttach() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.mayAttachLocked()
}

func (k *Keeper) mayAttachLocked() error {
	switch {
	case k.place.other != nil:
		p := k.place.other.problem()
		return fmt.Errorf("%w: %s: %s", ErrIdentity, p.What, p.Hint)
	case k.place.rival != nil:
		p := k.place.rival.problem()
		return fmt.Errorf("%w: %s: %s", ErrIdentity, p.What, p.Hint)
	case k.fencedLocked():
		return fmt.Errorf("%w: this host could not renew its ownership in time, and another may have its subnets by now: make etcd reachable", ErrFenced)
	}
	return nil
}

// problemsLocked returns what is wrong by this room's knowledge, the worst first.
func (k *Keeper) problemsLocked() []cluster.Problem {
	var ps []cluster.Problem
	if k.place.other != nil {
		ps = append(ps, k.place.other.problem())
	}
	if k.place.rival != nil {
		ps = append(ps, k.place.rival.problem())
	}
	if k.place.incumbent {
		ps = append(ps, k.cloneProblemsLocked()...)
	}
	if k.fencedLocked() && k.place.other == nil {
		ps = append(ps, cluster.Problem{
			Severity: cluster.SeverityError, Subject: "host " + k.self.Name,
			What: "could not renew its ownership in time; takes no new attachments until its subnets are confirmed",
			Hint: "make etcd reachable from this host",
		})
	}
	for _, r := range k.rows {
		if r.lost != "" && r.Phase == phaseHeld {
			ps = append(ps, lostProblem(r))
		}
	}
	ps = append(ps, k.invalid...)
	if k.meddled.times > 0 {
		ps = append(ps, k.meddlingProblemLocked())
	}
	if len(k.orphans) > 0 {
		ps = append(ps, k.orphanProblemsLocked()...)
	}
	slices.SortFunc(ps, compareProblems)
	return slices.CompactFunc(ps, func(a, b cluster.Problem) bool { return a == b })
}

func lostProblem(r row) cluster.Problem {
	p := cluster.Problem{
		Severity: cluster.SeverityError, Subject: fmt.Sprintf("subnet %s of network %s", r.Prefix, r.Network),
		What: "lost: " + r.lost,
		Hint: "start the containers with addresses of it again: they get new ones",
	}
	if r.Prefix.IsSingleIP() {
		p.Subject = fmt.Sprintf("address %s of network %s", r.Prefix.Addr(), r.Network)
		p.Hint = "remove the container that had it here, or start it with another"
	}
	return p
}

func (k *Keeper) orphanProblemsLocked() []cluster.Problem {
	var ps []cluster.Problem
	for key := range k.orphans {
		if e, ok := k.wanted[key]; ok {
			ps = append(ps, cluster.Problem{
				Severity: cluster.SeverityWarning, Subject: "network " + e.Network,
				What: "deleted while containers of this host are on it",
				Hint: "disconnect them, or remove them",
			})
		}
	}
	return ps
}

// notify calls Changed if what callers see has changed since the last call.
func (k *Keeper) notify() {
	k.mu.Lock()
	v := k.viewLocked()
	changed := !v.equal(k.shown)
	before := k.shown.status
	k.shown = v
	k.mu.Unlock()
	if !changed {
		return
	}
	if before.Ownership != v.status.Ownership || before.Connected != v.status.Connected {
		k.log.Info("lease state changed", "ownership", v.status.Ownership, "connected", v.status.Connected)
	}
	for _, p := range v.status.Problems {
		if !slices.Contains(before.Problems, p) {
			k.log.Warn("problem", "severity", p.Severity, "subject", p.Subject, "what", p.What, "hint", p.Hint)
		}
	}
	k.cfg.Changed()
}

func (k *Keeper) viewLocked() view {
	v := view{held: k.heldLocked(), status: k.statusLocked()}
	v.status.Until = time.Time{}
	return v
}

func (v view) equal(o view) bool {
	return slices.Equal(v.held, o.held) && v.status.Connected == o.status.Connected && v.status.Since.Equal(o.status.Since) &&
		v.status.Ownership == o.status.Ownership && slices.Equal(v.status.Problems, o.status.Problems)
}

// setConnected notes whether the store answers.
func (k *Keeper) setConnected(up bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.link.up != up {
		k.link = connection{up: up, since: time.Now()}
	}
}

func compareLeases(a, b cluster.Lease) int {
	return cmp.Or(cmp.Compare(a.Network, b.Network), cluster.ComparePrefix(a.Prefix, b.Prefix))
}

func compareProblems(a, b cluster.Problem) int {
	return cmp.Or(
		cmp.Compare(rank(a.Severity), rank(b.Severity)), strings.Compare(a.Subject, b.Subject),
		strings.Compare(a.What, b.What), strings.Compare(a.Hint, b.Hint),
	)
}

func rank(s cluster.Severity) int {
	if s == cluster.SeverityError {
		return 0
	}
	return 1
}
