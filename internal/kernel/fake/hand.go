package fake

import (
	"fmt"
	"strings"
	"syscall"

	"github.com/ovlnet/ovl/internal/dataplane"
)

// The methods here are what somebody else does to the kernel: an operator, a
// runtime, another program. They ask for no ownership.

// AddNamespace makes an empty network namespace, if there is none of that name.
func (k *Kernel) AddNamespace(ns dataplane.NS) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.spaces[ns]; !ok {
		k.addSpace(ns)
	}
}

// RemoveNamespace ends a namespace with all that is in it, and so the hosts'
// ends of its pairs.
func (k *Kernel) RemoveNamespace(ns dataplane.NS) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s, ok := k.spaces[ns]
	if !ok || ns == dataplane.Host {
		return
	}
	for _, l := range s.links {
		k.removeLink(l)
	}
	delete(k.spaces, ns)
}

// Move moves a link to another name, perhaps in another namespace: down, and without what
// was on it (dev_change_net_namespace in net/core/dev.c).
func (k *Kernel) Move(from, to dataplane.LinkKey) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	s, there := k.spaces[from.NS], k.spaces[to.NS]
	if s == nil || there == nil {
		return syscall.ENOENT
	}
	l, ok := s.links[from.Name]
	if !ok {
		return syscall.ENODEV
	}
	if _, taken := there.links[to.Name]; taken {
		return syscall.EEXIST
	}
	s.dropRoutes(func(r dataplane.Route) bool { return r.Link == from.Name })
	for p := range l.addrs {
		s.removeAddr(l, p)
	}
	clear(l.neighs)
	delete(s.links, from.Name)
	l.LinkKey, l.in, l.Up, l.Master, l.Hairpin = to, there, false, "", false
	there.links[to.Name] = l
	return nil
}

// Set makes a row so by hand: what is not there is made, what differs is
// changed. A link need not be ours; a Route becomes one of ours.
func (k *Kernel) Set(r dataplane.Row) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch r := r.(type) {
	case dataplane.Link:
		return k.setLink(r)
	case dataplane.Chain:
		w, err := k.wall(r.Family, r.FirewallOf)
		if err != nil {
			return err
		}
		w[r.Name] = &chain{rules: r.Rules, digest: r.Digest}
		return nil
	case dataplane.Addr:
		if s, ok := k.spaces[r.NS]; ok && s.links[r.Link] != nil {
			s.links[r.Link].addrs[r.Prefix] = struct{}{}
			return nil
		}
		return syscall.ENODEV
	}
	return k.apply(dataplane.Op{Verb: dataplane.Update, Row: r})
}

func (k *Kernel) setLink(r dataplane.Link) error {
	s, ok := k.spaces[r.NS]
	if !ok {
		return syscall.ENOENT
	}
	l, ok := s.links[r.Name]
	if !ok {
		var err error
		if r.Kind == dataplane.Veth && r.Peer == "" {
			l = s.add(dataplane.Link{LinkKey: r.LinkKey, Kind: r.Kind}) // its other end is nobody's business
		} else if l, err = k.makeLink(s, r); err != nil {
			return err
		}
	}
	return k.change(l, r)
}

// SetForeignRoute makes a route that is not ours.
func (k *Kernel) SetForeignRoute(r dataplane.Route) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	s, ok := k.spaces[r.NS]
	if !ok {
		return syscall.ENOENT
	}
	return s.setRoute(route{r, true})
}

// SetForeignQdisc puts something at the root of a link that is not ours.
func (k *Kernel) SetForeignQdisc(r dataplane.QdiscKey) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	s, ok := k.spaces[r.NS]
	if !ok || s.links[r.Link] == nil {
		return syscall.ENODEV
	}
	s.links[r.Link].qdisc = &qdisc{foreign: true}
	return nil
}

// Remove takes a row away by hand, whoever's it is; it fails if it is not
// there.
func (k *Kernel) Remove(key dataplane.Key) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	s, ok := k.spaces[key.Namespace()]
	if !ok {
		return syscall.ENOENT
	}
	switch key := key.(type) {
	case dataplane.LinkKey:
		l, ok := s.links[key.Name]
		if !ok {
			return syscall.ENODEV
		}
		k.removeLink(l)
	case dataplane.QdiscKey:
		if s.links[key.Link] == nil || s.links[key.Link].qdisc == nil {
			return syscall.ENOENT
		}
		s.links[key.Link].qdisc = nil
	case dataplane.AddrKey:
		return k.apply(dataplane.Op{Verb: dataplane.Delete, Row: dataplane.Addr{AddrKey: key}})
	case dataplane.NeighKey:
		return k.apply(dataplane.Op{Verb: dataplane.Delete, Row: dataplane.Neigh{NeighKey: key}})
	case dataplane.FDBKey:
		return k.apply(dataplane.Op{Verb: dataplane.Delete, Row: dataplane.FDB{FDBKey: key}})
	case dataplane.RouteKey:
		delete(s.routes, key.Dst)
	case dataplane.ChainKey:
		w, err := k.wall(key.Family, key.FirewallOf)
		if err != nil {
			return err
		}
		return w.removeChain(key.Name)
	case dataplane.SetKey:
		return k.applySet(dataplane.Delete, dataplane.Set{SetKey: key})
	case dataplane.ElementKey:
		return k.applyElement(dataplane.Delete, dataplane.Element{ElementKey: key})
	case dataplane.GuardKey:
		return k.applyGuard(dataplane.Delete, dataplane.Guard{GuardKey: key})
	case dataplane.JumpKey:
		return k.apply(dataplane.Op{Verb: dataplane.Delete, Row: dataplane.Jump{JumpKey: key}})
	default:
		return fmt.Errorf("remove %s: cannot be removed", key)
	}
	return nil
}

// State returns every row of ours, of all namespaces.
func (k *Kernel) State() dataplane.State {
	k.mu.Lock()
	defer k.mu.Unlock()
	var state dataplane.State
	for ns, s := range k.spaces {
		s.observe(dataplane.AllTables, &state)
		if ns == dataplane.Host {
			k.observeGuards(dataplane.AllTables, &state)
			k.observeFlows(dataplane.AllTables, &state)
			k.observeWalls(dataplane.AllTables, &state)
		}
	}
	return state
}

// Foreign describes, one a line, all on the host that is not ours.
func (k *Kernel) Foreign() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var lines []string
	host := k.spaces[dataplane.Host]
	for _, l := range host.links {
		if l.ours() {
			continue
		}
		lines = append(lines, l.row().String())
		for p := range l.addrs {
			lines = append(lines, fmt.Sprintf("addr %s dev %s", p, l.Name))
		}
	}
	for _, r := range host.routes {
		if r.foreign {
			lines = append(lines, r.String())
		}
	}
	for key, w := range k.walls {
		for name, c := range w {
			if !strings.HasPrefix(name, dataplane.ChainPrefix) && c.rules != "" {
				lines = append(lines, fmt.Sprintf("chain %s %s %s %s", key.family, key.table, name, c.rules))
			}
		}
	}
	return lines
}
