package rotation

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/ovlnet/ovl/controller/keys"
	"github.com/ovlnet/ovl/controller/roll"
	"github.com/ovlnet/ovl/internal/identity"
	"github.com/ovlnet/ovl/internal/store"
)

// Laggard is one who is not ready for the next step.
type Laggard struct {
	Who   identity.Who
	Name  string    // of a host, beside its ID
	Said  time.Time // when it last said what it trusts; zero: never
	Lacks string
}

// State is where a rotation is.
type State struct {
	identity.Authorities
	Members int
	Behind  []Laggard // controllers first
}

// State returns where the rotation is now.
func (r *Rotation) State(ctx context.Context) (State, error) {
	a, _, err := r.Read(ctx)
	if err != nil && len(a.Trusted) == 0 {
		return State{}, err
	}
	return r.state(ctx, a)
}

// state returns who is behind the CAs in force. What it reads is not older than
// the record: see [Rotation.step].
func (r *Rotation) state(ctx context.Context, a identity.Authorities) (State, error) {
	s := State{Authorities: a}
	page, err := r.Store.Range(ctx, roll.MembersPrefix, ControllersPrefix)
	if err != nil {
		return s, err
	}
	var members []roll.Member
	for _, rec := range page.Records {
		if m, err := roll.DecodeMember(rec); err == nil {
			members = append(members, m)
		}
	}
	s.Members = len(members)
	if a.Phase == identity.Rest {
		return s, nil
	}
	s.Behind = append(r.controllersBehind(page.Records, a), r.membersBehind(members, a)...)
	return s, nil
}

// membersBehind returns those who are not ready. Once a certificate's whole life has
// passed since the phase began nobody is: whose was issued before has none.
func (r *Rotation) membersBehind(members []roll.Member, a identity.Authorities) []Laggard {
	if r.Now().After(a.Since.Add(r.Life)) {
		return nil
	}
	var all []Laggard
	for _, m := range members {
		if m.Followed(a) {
			continue
		}
		l := Laggard{Who: m.Who, Name: cmp.Or(m.Name, m.Who.Name), Said: m.Said, Lacks: "trust in the next CA: it has not renewed since"}
		if slices.Contains(m.Trusts, a.Newest()) {
			l.Lacks = "a certificate of the CA that issues now: it has not renewed since"
		}
		all = append(all, l)
	}
	slices.SortFunc(all, func(a, b Laggard) int {
		return cmp.Or(cmp.Compare(a.Who.Role, b.Who.Role), cmp.Compare(a.Name, b.Name))
	})
	return all
}

// BehindError is a step that somebody is not ready for.
type BehindError struct{ State State }

// shown is how many laggards an error names.
const shown = 5

func (e *BehindError) Error() string {
	var names []string
	for _, l := range e.State.Behind[:min(len(e.State.Behind), shown)] {
		names = append(names, string(l.Who.Role)+" "+l.Name)
	}
	if more := len(e.State.Behind) - len(names); more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	if e.State.Phase == identity.Spread {
		return fmt.Sprintf("%d do not trust the next CA yet: %s: wait (ovlctl ca status), or let it issue although they do not (--force)", len(e.State.Behind), strings.Join(names, ", "))
	}
	return fmt.Sprintf("%d would be shut out, who have no certificate of the CA that issues now: %s: wait (ovlctl ca status), or drop the old one all the same (--force)", len(e.State.Behind), strings.Join(names, ", "))
}

// RefusedError is a step that the phase, or what was given, does not allow.
type RefusedError struct{ Text string }

func (e *RefusedError) Error() string { return e.Text }

func refuse(format string, args ...any) error {
	return &RefusedError{Text: fmt.Sprintf(format, args...)}
}

// Begin brings in a CA: one that is made here, or a given one, in PEM. Where one
// is coming in already, it only sees to it that this controller has its key.
func (r *Rotation) Begin(ctx context.Context, certPEM, keyPEM []byte) (State, error) {
	a, rev, err := r.Read(ctx)
	if err != nil && !errors.Is(err, keys.ErrNoKey) { // which may be what is given
		return State{}, err
	}
	if a.Phase != identity.Rest && len(certPEM) == 0 {
		return r.State(ctx)
	}
	next, err := r.Keys.Next(certPEM, keyPEM)
	if err != nil {
		return State{}, refuse("%v", err)
	}
	at, dropped := a.DroppedAt(next)
	switch {
	case a.Phase != identity.Rest && slices.Contains(a.Trusted, next):
		return r.State(ctx)
	case a.Phase != identity.Rest:
		return State{}, withForget(r, refuse("another CA is coming in: finish that first (ovlctl ca status)"))
	case next == a.Issuer():
		return State{}, refuse("that is the CA of the cluster already")
	case dropped:
		return State{}, withForget(r, refuse("that CA was dropped at %s: bring in another one", at.UTC().Format(time.RFC3339)))
	}
	return r.commit(ctx, a.Begin(next, r.Now()), rev)
}

// Finish takes the next step: where the next CA is being spread, to issue with it;
// then to drop the one of before. With force also though somebody is not ready.
func (r *Rotation) Finish(ctx context.Context, force bool) (State, error) {
	return r.step(ctx, force, identity.Spread, identity.Issue)
}

// withForget is a refusal, after which nothing of the CA stays here.
func withForget(r *Rotation, refusal error) error {
	if err := r.Keys.Forget(); err != nil {
		return err
	}
	return refusal
}

// Undo gives the next CA up, which has issued nothing yet.
func (r *Rotation) Undo(ctx context.Context) (State, error) {
	a, rev, err := r.Read(ctx)
	if err != nil {
		return State{}, err
	}
	if a.Phase != identity.Spread {
		return State{}, refuse("no CA is coming in that has issued nothing yet")
	}
	s, err := r.commit(ctx, a.Drop(r.Now()), rev)
	if err == nil {
		err = r.Keys.Forget()
	}
	return s, err
}

// step goes on from one of the phases. The members and controllers are read after
// the record, and the transaction compares the record alone: who joins in between
// does so in a transaction that compares it too, and so knows what it says.
func (r *Rotation) step(ctx context.Context, force bool, from ...identity.Phase) (State, error) {
	a, rev, err := r.Read(ctx)
	if err != nil {
		return State{}, err
	}
	if !slices.Contains(from, a.Phase) {
		return State{}, refuse("no CA is coming in: ovlctl ca rotate brings one in")
	}
	s, err := r.state(ctx, a)
	if err != nil {
		return s, err
	}
	if len(s.Behind) > 0 && !force {
		return s, &BehindError{s}
	}
	next := a.Advance(r.Now())
	if a.Phase == identity.Issue {
		next = a.Drop(r.Now())
	}
	return r.commit(ctx, next, rev)
}

func (r *Rotation) commit(ctx context.Context, next identity.Authorities, rev int64) (State, error) {
	value, err := next.Encode()
	if err != nil {
		return State{}, err
	}
	settled, cancel := context.WithTimeout(ctx, settle)
	defer cancel()
	if err := r.write(settled, value, rev); err != nil {
		return State{}, err
	}
	for { // it is done: who asked is to hear that
		s, err := r.State(settled)
		if !errors.Is(err, store.ErrUnavailable) || !pause(settled) {
			return s, err
		}
	}
}

// settle is for how long a step that may have been taken looks for the store, and
// after how long each time. The step itself may close this controller's connection: to
// the etcd within another controller, with a certificate of the CA that it drops.
const settle, lookEach = 5 * time.Second, 50 * time.Millisecond

// pause waits before the next look; false: there is none.
func pause(ctx context.Context) bool {
	select {
	case <-time.After(lookEach):
		return true
	case <-ctx.Done():
		return false
	}
}

// write writes the record in place of the one of that revision. Where the answer is
// lost the record itself tells whether it was written, and as long as it is the one of
// before it is safe to write again: of both writes at most one finds it so.
func (r *Rotation) write(ctx context.Context, value []byte, rev int64) error {
	put := func() error {
		_, err := r.Store.Txn(ctx, []store.Cond{store.Unchanged(roll.CAKey, rev)}, []store.Write{store.Put(roll.CAKey, value, 0)})
		return err
	}
	err := put()
	for lost := err; errors.Is(err, store.ErrUnavailable) && pause(ctx); {
		now, _, readErr := store.Get(ctx, r.Store, roll.CAKey)
		switch {
		case readErr != nil:
			err = readErr
		case bytes.Equal(now.Value, value):
			return nil
		case now.ModRev != rev:
			return store.ErrConflict // another one's step
		default:
			if err = put(); errors.Is(err, store.ErrConflict) {
				err = lost // the first one may have come late: look again
			}
		}
	}
	return err
}

// lookAgain is the slow timer of advance: what it waits for wakes it mostly.
const lookAgain = 30 * time.Second

// advance lets the next CA issue as soon as everybody trusts it: that shuts nobody
// out. To drop the one of before is for people to say.
func (r *Rotation) advance(ctx context.Context) {
	for {
		select {
		case <-r.changed:
		case <-r.Roll.Changed():
		case <-time.After(lookAgain):
		case <-ctx.Done():
			return
		}
		a := r.Current()
		if a.Phase != identity.Spread || len(r.membersBehind(r.Roll.Members(), a)) > 0 {
			continue
		}
		s, err := r.step(ctx, false, identity.Spread)
		if err != nil {
			r.Log.Debug("the next CA does not issue yet", slog.Any("err", err))
			continue
		}
		if r.Advanced != nil {
			r.Advanced(a, s.Authorities)
		}
	}
}
