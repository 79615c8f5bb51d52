package kernel

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/ovlnet/ovl/internal/dataplane"
)

// published is what our rules of one family do to UDP for this host, as last read
// or written: read from the rules themselves, whoever made them.
type published struct {
	chains map[string]map[uint16][]translation // by chain, then port
	// removed are the places that rules led to, which were there and are not, and
	// to which flows may still go.
	removed map[netip.AddrPort]bool
}

// translation is one rule: at is not valid where it is for all addresses.
type translation struct {
	at netip.Prefix
	to netip.AddrPort
}

func newPublished() *published {
	return &published{chains: map[string]map[uint16][]translation{}, removed: map[netip.AddrPort]bool{}}
}

func (p *published) empty() bool { return p == nil || len(p.chains)+len(p.removed) == 0 }

// learn takes up the rules of a chain, one a line; none if it is gone.
func (p *published) learn(chain, rules string) {
	next := translations(rules)
	for port, list := range p.chains[chain] {
		for _, t := range list {
			if !leadsTo(next[port], t.to) {
				p.removed[t.to] = true
			}
		}
	}
	if len(next) == 0 {
		delete(p.chains, chain)
	} else {
		p.chains[chain] = next
	}
	for _, list := range next {
		for _, t := range list {
			delete(p.removed, t.to)
		}
	}
}

func leadsTo(list []translation, to netip.AddrPort) bool {
	for _, t := range list {
		if t.to == to {
			return true
		}
	}
	return false
}

// translations reads the rules of UDP among the rules of a chain, such as
// "-d 192.0.2.1/32 -p udp -m udp --dport 53 -j DNAT --to-destination 10.64.1.2:53".
func translations(rules string) map[uint16][]translation {
	if !strings.Contains(rules, "-p udp ") || !strings.Contains(rules, "-j DNAT ") {
		return nil
	}
	out := map[uint16][]translation{}
	for line := range strings.SplitSeq(rules, "\n") {
		if !strings.Contains(line, "-p udp ") {
			continue
		}
		var t translation
		var port uint64
		words := strings.Fields(line)
		for i, w := range words[:max(len(words)-1, 0)] {
			next := words[i+1]
			switch w {
			case "-d":
				t.at, _ = netip.ParsePrefix(next)
			case "--dport":
				port, _ = strconv.ParseUint(next, 10, 16) // a span leads nowhere
			case "--to-destination":
				t.to, _ = netip.ParseAddrPort(next)
			}
		}
		if port != 0 && t.to.IsValid() {
			out[uint16(port)] = append(out[uint16(port)], t)
		}
	}
	return out
}

// stale reports whether a flow does not go where the rules lead it, and whether it
// goes to where a rule led that is gone. local are the addresses of this host, ours
// the subnets on its bridges.
func (p *published) stale(f flow, local map[netip.Addr]bool, ours []netip.Prefix) (stale, old bool) {
	old = p.removed[f.via] && f.via != f.to
	to, ruled := p.leads(f.to)
	if !ruled || !local[f.to.Addr()] || resolves(f.to, ours) {
		return old, old
	}
	if f.via == to {
		return false, false
	}
	return f.via == f.to || old || anyContains(ours, f.via.Addr()), old
}

// leads returns where the first rule for an address leads.
func (p *published) leads(at netip.AddrPort) (to netip.AddrPort, ok bool) {
	for _, chain := range p.chains {
		for _, t := range chain[at.Port()] {
			if !t.at.IsValid() || t.at.Contains(at.Addr()) {
				return t.to, true
			}
		}
	}
	return to, false
}

// resolves reports whether questions to an address are for the networks' own
// resolver, which no rule for a published port takes away; ::1 is not translated
// either.
func resolves(at netip.AddrPort, ours []netip.Prefix) bool {
	return at.Port() == 53 && anyContains(ours, at.Addr()) || at.Addr() == netip.IPv6Loopback()
}

// forget drops the removed places to which no flow goes any more.
func (p *published) forget(still map[netip.AddrPort]bool) {
	for to := range p.removed {
		if !still[to] {
			delete(p.removed, to)
		}
	}
}

// learn takes up what a chain of the nat table does.
func (f *firewall) learn(k dataplane.ChainKey, rules string) {
	if k.FirewallOf == "nat" {
		f.published[k.Family].learn(k.Name, rules)
	}
}

// relearn takes up what all chains of ours in the nat table do.
func (f *firewall) relearn(family dataplane.Family, chains map[string][]savedRule) {
	for name := range f.published[family].chains {
		if _, there := chains[name]; !there {
			f.published[family].learn(name, "")
		}
	}
	for name, rules := range chains {
		if strings.HasPrefix(name, dataplane.ChainPrefix) {
			f.published[family].learn(name, chainRow(dataplane.ChainKey{}, rules).Rules)
		}
	}
}
