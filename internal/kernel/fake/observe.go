package fake

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/ovlnet/ovl/internal/dataplane"
)

// Observe implements [reconcile.Kernel].
func (k *Kernel) Observe(ctx context.Context, scope dataplane.Scope) (dataplane.State, dataplane.Facts, error) {
	if err := ctx.Err(); err != nil {
		return dataplane.State{}, dataplane.Facts{}, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	var (
		state dataplane.State
		facts dataplane.Facts
	)
	for ns, tables := range scope {
		s, ok := k.spaces[ns]
		if !ok {
			facts.Gone = append(facts.Gone, ns)
			continue
		}
		s.observe(tables, &state)
		if ns != dataplane.Host {
			continue
		}
		k.observeGuards(tables, &state)
		k.observeFlows(tables, &state)
		k.observeWalls(tables, &state)
		if tables&dataplane.Of(dataplane.TableLink, dataplane.TableAddr, dataplane.TableRoute) != 0 {
			facts.Host = k.hostFacts(s)
		}
	}
	slices.Sort(facts.Gone)
	return state, facts, nil
}

func (s *space) observe(tables dataplane.Tables, state *dataplane.State) {
	for _, l := range s.links {
		if l.ours() {
			l.observe(tables, state)
		}
	}
	if tables.Has(dataplane.TableRoute) {
		for _, r := range s.routes {
			if !r.foreign {
				state.Add(r.Route)
			}
		}
	}
	if tables.Has(dataplane.TableSysctl) && s.name == dataplane.Host {
		for _, name := range dataplane.HostSysctls {
			if v, ok := s.sysctls[name]; ok {
				state.Add(dataplane.Sysctl{SysctlKey: dataplane.SysctlKey{NS: s.name, Name: name}, Value: v})
			}
		}
		for _, l := range s.links {
			key := dataplane.RouteLocalnet(l.Name)
			if v, ok := s.sysctls[key.Name]; ok && v != "0" && strings.HasPrefix(l.Name, dataplane.BridgePrefix) {
				state.Add(dataplane.Sysctl{SysctlKey: key, Value: v})
			}
		}
	}
}

func (l *link) observe(tables dataplane.Tables, state *dataplane.State) {
	if tables.Has(dataplane.TableLink) {
		state.Add(l.row())
	}
	if tables.Has(dataplane.TableQdisc) && l.qdisc != nil && !l.qdisc.foreign {
		state.Add(l.qdisc.Qdisc)
	}
	if tables.Has(dataplane.TableAddr) {
		for p := range l.addrs {
			state.Add(dataplane.Addr{AddrKey: dataplane.AddrKey{NS: l.NS, Link: l.Name, Prefix: p}})
		}
	}
	if tables.Has(dataplane.TableNeigh) {
		for ip, mac := range l.neighs {
			state.Add(dataplane.Neigh{NeighKey: dataplane.NeighKey{NS: l.NS, Link: l.Name, IP: ip}, MAC: mac})
		}
	}
	if tables.Has(dataplane.TableFDB) {
		for mac, dst := range l.fdb {
			state.Add(dataplane.FDB{FDBKey: dataplane.FDBKey{NS: l.NS, Link: l.Name, MAC: mac}, Dst: dst})
		}
	}
}

// hostFacts tells what is on the host that is not ours.
func (k *Kernel) hostFacts(s *space) *dataplane.HostFacts {
	f := &dataplane.HostFacts{DefaultLink: k.uplink, NoGuard: k.NoGuard}
	for _, l := range s.links {
		if l.ours() {
			continue
		}
		h := dataplane.HostLink{Name: l.Name, MTU: l.MTU, Up: l.Up, Kind: string(l.Kind)}
		for p := range l.addrs {
			h.Addrs = append(h.Addrs, p)
		}
		slices.SortFunc(h.Addrs, netip.Prefix.Compare)
		for _, r := range s.routes {
			if r.foreign && r.Link == l.Name && !r.Via.IsValid() && r.Dst.Bits() > 0 {
				h.OnLink = append(h.OnLink, r.Dst)
			}
		}
		slices.SortFunc(h.OnLink, netip.Prefix.Compare)
		f.Links = append(f.Links, h)
	}
	slices.SortFunc(f.Links, func(a, b dataplane.HostLink) int { return strings.Compare(a.Name, b.Name) })
	for _, r := range s.routes {
		if r.foreign && r.Dst.Bits() > 0 {
			f.Routes = append(f.Routes, r.Dst)
		}
	}
	slices.SortFunc(f.Routes, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	for i, family := range []dataplane.Family{dataplane.IPv4, dataplane.IPv6} {
		_, f.DockerUser[i] = k.walls[wallKey{family, "filter"}]["DOCKER-USER"]
	}
	return f
}
