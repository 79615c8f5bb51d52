package fake

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"github.com/ovlnet/ovl/internal/dataplane"
)

// wallKey names a table of iptables in one family.
type wallKey struct {
	family dataplane.Family
	table  string
}

// wall holds the chains of a table by name.
type wall map[string]*chain

// chain is a chain of ours or of somebody else.
type chain struct {
	rules, digest string
	jumps         []string // chains of ours that it leads to, by comment
}

var builtin = map[string][]string{
	"filter": {"INPUT", "FORWARD", "OUTPUT"},
	"nat":    {"PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"},
	"raw":    {"PREROUTING", "OUTPUT"},
	"mangle": {"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"},
}

var errNoTable = errors.New("no such table of iptables")

func (k *Kernel) wall(f dataplane.Family, table string) (wall, error) {
	key := wallKey{f, table}
	w, ok := k.walls[key]
	if ok {
		return w, nil
	}
	chains, ok := builtin[table]
	if !ok {
		return nil, fmt.Errorf("%w: %q", errNoTable, table)
	}
	w = wall{}
	for _, name := range chains {
		w[name] = &chain{}
	}
	k.walls[key] = w
	return w, nil
}

func (k *Kernel) applyChain(verb dataplane.Verb, r dataplane.Chain) error {
	w, err := k.wall(r.Family, r.FirewallOf)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(r.Name, dataplane.ChainPrefix) {
		return errForeign
	}
	if verb == dataplane.Delete {
		return w.removeChain(r.Name)
	}
	for rule := range strings.Lines(r.Rules) {
		if to := target(rule); strings.HasPrefix(to, dataplane.ChainPrefix) && w[to] == nil {
			return fmt.Errorf("rule leads to chain %s that does not exist", to)
		}
	}
	c := w[r.Name]
	if c == nil {
		c = &chain{}
		w[r.Name] = c
	}
	c.rules, c.digest = r.Rules, r.Digest
	return nil
}

// WriteChains implements [reconcile.Grouper].
func (k *Kernel) WriteChains(ctx context.Context, ops []dataplane.Op) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	first, _ := ops[0].Row.(dataplane.Chain)
	w, err := k.wall(first.Family, first.FirewallOf)
	if err != nil {
		return err
	}
	before := make(wall, len(w))
	for name, c := range w {
		old := *c
		before[name] = &old
	}
	for _, op := range ops {
		r, ok := op.Row.(dataplane.Chain)
		if !ok || op.Verb == dataplane.Delete || r.Family != first.Family || r.FirewallOf != first.FirewallOf {
			err = errForeign
		} else {
			err = k.applyChain(op.Verb, r)
		}
		if err != nil {
			k.walls[wallKey{first.Family, first.FirewallOf}] = before
			return err
		}
	}
	return nil
}

// removeChain deletes a chain and the jumps into it. While a rule of another
// chain leads to it, Linux refuses.
func (w wall) removeChain(name string) error {
	for other, c := range w {
		for rule := range strings.Lines(c.rules) {
			if other != name && target(rule) == name {
				return fmt.Errorf("chain %s leads to it: %w", other, syscall.EBUSY)
			}
		}
	}
	for _, c := range w {
		c.drop(name)
	}
	delete(w, name)
	return nil
}

func (c *chain) drop(to string) {
	c.jumps = slices.DeleteFunc(c.jumps, func(j string) bool { return j == to })
}

// target returns what follows -j or -g in a rule.
func target(rule string) string {
	words := strings.Fields(rule)
	for i, w := range words[:max(0, len(words)-1)] {
		if w == "-j" || w == "-g" || w == "--jump" || w == "--goto" {
			return words[i+1]
		}
	}
	return ""
}

func (k *Kernel) applyJump(verb dataplane.Verb, r dataplane.Jump) error {
	w, err := k.wall(r.Family, r.FirewallOf)
	if err != nil {
		return err
	}
	from := w[r.From]
	switch {
	case verb == dataplane.Delete && from == nil:
		return nil
	case from == nil || verb != dataplane.Delete && w[r.To] == nil:
		return syscall.ENOENT
	}
	from.drop(r.To)
	if verb != dataplane.Delete {
		from.jumps = slices.Insert(from.jumps, 0, r.To)
	}
	return nil
}

func (k *Kernel) observeWalls(tables dataplane.Tables, state *dataplane.State) {
	for key, w := range k.walls {
		for name, c := range w {
			ours := strings.HasPrefix(name, dataplane.ChainPrefix)
			if ours && tables.Has(dataplane.TableChain) {
				state.Add(dataplane.Chain{
					ChainKey: dataplane.ChainKey{Family: key.family, FirewallOf: key.table, Name: name},
					Rules:    c.rules, Digest: c.digest,
				})
			}
			if ours || !tables.Has(dataplane.TableJump) {
				continue
			}
			for _, to := range c.jumps {
				state.Add(dataplane.Jump{JumpKey: dataplane.JumpKey{Family: key.family, FirewallOf: key.table, From: name, To: to}})
			}
		}
	}
}
