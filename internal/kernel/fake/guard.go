package fake

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"strings"
	"syscall"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
)

// nfTable is one of our tables of nf_tables: sets with their elements, and rules.
type nfTable struct {
	sets  map[dataplane.SetKey]map[dataplane.ElementKey]cluster.MAC
	guard *dataplane.Guard
}

func (k *Kernel) applySet(verb dataplane.Verb, r dataplane.Set) error {
	t := &k.nft[r.In()]
	if verb != dataplane.Delete {
		if _, ok := t.sets[r.SetKey]; !ok {
			if t.sets == nil {
				t.sets = map[dataplane.SetKey]map[dataplane.ElementKey]cluster.MAC{}
			}
			t.sets[r.SetKey] = map[dataplane.ElementKey]cluster.MAC{}
		}
		return nil
	}
	if t.uses(r.SetKey) {
		return syscall.EBUSY
	}
	delete(t.sets, r.SetKey)
	return nil
}

// Fill implements [reconcile.Filler]: all of the elements or none.
func (k *Kernel) Fill(ctx context.Context, elements []dataplane.Element) error {
	if err := ctx.Err(); err != nil || k.Before != nil { // whoever asks before each is asked for each
		return cmp.Or(err, errors.ErrUnsupported)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for i, e := range elements {
		if err := k.applyElement(dataplane.Create, e); err != nil {
			for _, made := range elements[:i] {
				_ = k.applyElement(dataplane.Delete, made)
			}
			return err
		}
	}
	return nil
}

// uses reports whether a rule looks into a set.
func (t *nfTable) uses(set dataplane.SetKey) bool {
	if t.guard != nil {
		for w := range strings.FieldsSeq(t.guard.Rules) {
			if w == "@"+set.Name() {
				return true
			}
		}
	}
	return false
}

func (k *Kernel) applyElement(verb dataplane.Verb, r dataplane.Element) error {
	elements, ok := k.nft[r.Set.In()].sets[r.Set]
	switch {
	case verb == dataplane.Delete:
		delete(elements, r.ElementKey)
		return nil
	case !ok:
		return syscall.ENOENT
	case r.Set.Kind != dataplane.Networks && dataplane.FamilyOf(r.Addr) != r.Set.Family:
		return syscall.EINVAL
	case r.Set.Kind == dataplane.Peers && (dataplane.FamilyOf(r.From) != r.Set.Inner || netip.PrefixFrom(r.From, int(r.Set.Bits)).Masked().Addr() != r.From):
		return syscall.EINVAL
	case r.Set.Kind == dataplane.Sources && (r.Link == "" || len(r.Link) > 15):
		return syscall.EINVAL
	}
	elements[r.ElementKey] = r.Owner
	return nil
}

func (k *Kernel) applyGuard(verb dataplane.Verb, r dataplane.Guard) error {
	t := &k.nft[r.In]
	if verb == dataplane.Delete {
		t.guard = nil
		return nil
	}
	for w := range strings.FieldsSeq(r.Rules) {
		if name, ok := strings.CutPrefix(w, "@"); ok && !strings.Contains(name, ",") && !t.has(name) {
			return syscall.ENOENT
		}
	}
	t.guard = &r
	return nil
}

func (t *nfTable) has(name string) bool {
	for set := range t.sets {
		if set.Name() == name {
			return true
		}
	}
	return false
}

func (k *Kernel) observeGuards(tables dataplane.Tables, state *dataplane.State) {
	for i := range k.nft {
		t := &k.nft[i]
		for set, elements := range t.sets {
			if tables.Has(dataplane.TableSet) {
				state.Add(dataplane.Set{SetKey: set})
			}
			if tables.Has(dataplane.TableElement) {
				for e, owner := range elements {
					state.Add(dataplane.Element{ElementKey: e, Owner: owner})
				}
			}
		}
		if t.guard != nil && tables.Has(dataplane.TableGuard) {
			state.Add(*t.guard)
		}
	}
}
