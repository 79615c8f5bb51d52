package kernel_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
)

var peersKey = dataplane.PeerSet(dataplane.IPv4, netip.MustParsePrefix("10.64.1.0/24"))

// guardRows are one of each kind of row in nf_tables.
func guardRows() []dataplane.Row {
	source := dataplane.Source("ove1", cluster.MAC{2, 0, 0, 0, 0, 9}, netip.MustParseAddr("10.64.1.2"))
	owner := dataplane.Owner(source.Addr, source.MAC)
	return []dataplane.Row{
		dataplane.Set{SetKey: peersKey},
		dataplane.Set{SetKey: source.Set},
		dataplane.Set{SetKey: owner.Set},
		owner,
		dataplane.Peer(netip.MustParseAddr("192.0.2.9"), 5, netip.MustParsePrefix("10.64.9.0/24")), source,
		dataplane.NewGuard(dataplane.NFInet, "chain arrivals { type filter hook input priority -310; }", "ip saddr . @th,96,24 . @th,336,32 & 0xffffff00 @peers_ipv4_24_over_ipv4 accept"),
		dataplane.NewGuard(dataplane.NFBridge, "chain frames { type filter hook prerouting priority -300; }",
			"ether type ip meta iifname . ether saddr . ip saddr @sources_ipv4 accept",
			"ether type arp ether daddr set arp daddr ip map @owners_ipv4 accept"),
	}
}

// nftables returns what nft(8) lists in the families in which we have tables.
func (h *host) nftables(t testing.TB) string {
	t.Helper()
	return h.do(t, "nft list ruleset inet") + h.do(t, "nft list ruleset bridge")
}

// TestTablesComeAndGo: opening the kernel tries what it can do and leaves nothing,
// and with the last row the tables go.
func TestTablesComeAndGo(t *testing.T) {
	h := newHost(t)
	if left := h.nftables(t); left != "" {
		t.Fatalf("trying left\n%s", left)
	}
	rows := guardRows()
	h.apply(t, dataplane.Create, rows...)
	if made := h.nftables(t); strings.Count(made, "table ") != 2 {
		t.Fatalf("made\n%s", made)
	}
	slices.Reverse(rows)
	h.apply(t, dataplane.Delete, rows...)
	if left := h.nftables(t); left != "" {
		t.Fatalf("deleting every row left\n%s", left)
	}
}

// TestTablesThatAHandMade: a table of our name is ours, however it came about.
func TestTablesThatAHandMade(t *testing.T) {
	for name, commands := range map[string][]string{
		"an empty table":        {"nft add table inet ovl"},
		"a set of another type": {"nft add table inet ovl", "nft add set inet ovl peers_ipv4_24_over_ipv4 { type ether_addr; }"},
		"a set with intervals":  {"nft add table inet ovl", "nft add set inet ovl peers_ipv4_24_over_ipv4 { type ipv4_addr; flags interval; }"},
		"a set that a rule uses": {
			"nft add table inet ovl", "nft add set inet ovl peers_ipv4_24_over_ipv4 { type ether_addr; }", "nft add chain inet ovl c",
			"nft add rule inet ovl c ether saddr @peers_ipv4_24_over_ipv4 drop",
		},
		"a chain of another hook": {"nft add table inet ovl", "nft add chain inet ovl arrivals { type filter hook output priority 0; policy drop; }"},
		"a map of another value":  {"nft add table bridge ovl", "nft add map bridge ovl owners_ipv4 { type ipv4_addr : ipv4_addr; }"},
		"a set instead of a map":  {"nft add table bridge ovl", "nft add set bridge ovl owners_ipv4 { type ipv4_addr; }"},
		"a map":                   {"nft add table bridge ovl", "nft add map bridge ovl m { type ipv4_addr : verdict; }"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			for _, c := range commands {
				h.do(t, c)
			}
			want := dataplane.NewState(guardRows()...)
			scope := dataplane.Scope{dataplane.Host: dataplane.NFTables}
			for range 2 {
				have, _, err := h.linux.Observe(t.Context(), scope)
				if err != nil {
					t.Fatal(err)
				}
				if name != "an empty table" && have.Len() == 0 {
					t.Error("it is not seen")
				}
				for _, op := range dataplane.Diff(want, have) {
					_ = h.linux.Apply(t.Context(), op) // a table that goes takes others' rows along, once
				}
			}
			have, _, err := h.linux.Observe(t.Context(), scope)
			if err != nil {
				t.Fatal(err)
			}
			if ops := dataplane.Diff(want, have); len(ops) != 0 || have.Len() != want.Len() {
				t.Errorf("after two passes:\n%swant\n%s", have, want)
			}
		})
	}
}

// TestTablesCanBeLoaded: what nft(8) lists of ours it can load again, and lists then as
// before: it is how people keep their firewalls.
func TestTablesCanBeLoaded(t *testing.T) {
	h := newHost(t)
	rows := []dataplane.Row{dataplane.Set{SetKey: dataplane.SetKey{Kind: dataplane.Networks}}, dataplane.OnHost(100)}
	lines := []string{"chain arrivals { type filter hook input priority -310; }", "udp dport 4789 goto tunnel", "chain tunnel"}
	for _, host := range []string{"192.0.2.9", "2001:db8::9"} {
		for from, rule := range map[string]string{
			"10.64.2.0/23": "@th,224,16 0x0800 %s . @th,96,24 . @th,336,32 & 0xfffffe00 @%s accept",
			"10.64.2.7/32": "@th,224,16 0x0800 %s . @th,96,24 . @th,336,32 @%s accept",
			"fd64::/60":    "@th,224,16 0x86dd @th,296,8 != 0xff %s . @th,96,24 . @th,304,128 & 0xfffffffffffffff00000000000000000 @%s accept",
		} {
			e := dataplane.Peer(netip.MustParseAddr(host), 100, netip.MustParsePrefix(from))
			saddr := "meta nfproto ipv4 ip saddr"
			if e.Set.Family == dataplane.IPv6 {
				saddr = "meta nfproto ipv6 ip6 saddr"
			}
			rows = append(rows, dataplane.Set{SetKey: e.Set}, e)
			lines = append(lines, fmt.Sprintf(rule, saddr, e.Set.Name()))
		}
	}
	rows = append(rows, dataplane.NewGuard(dataplane.NFInet, append(lines, "@th,96,24 != @networks accept", "counter drop")...))
	h.apply(t, dataplane.Create, rows...)
	for _, r := range guardRows() {
		if !strings.Contains(r.Key().String(), dataplane.NFInet.String()) {
			h.apply(t, dataplane.Create, r)
		}
	}
	before := h.nftables(t)
	for _, part := range []string{
		"192.0.2.9 . 0x64 . 0xa400200", "@th,304,128 & 0xfffffffffffffff00000000000000000", "0xa400207",
		"10.64.1.2 : 02:00:00:00:00:09", "ether daddr set arp daddr ip map @owners_ipv4",
	} {
		if !strings.Contains(before, part) {
			t.Errorf("%s is not in\n%s", part, before)
		}
	}
	file := filepath.Join(t.TempDir(), "nftables.conf")
	if err := os.WriteFile(file, []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	h.do(t, "nft flush ruleset")
	h.do(t, "nft -f "+file)
	if after := h.nftables(t); after != before {
		t.Errorf("loaded again\n%s\nwas\n%s", after, before)
	}
}

// TestMonitorPassesOurGuardsOver: what we do to nf_tables wakes nobody; what others do
// there wakes for their tables or for ours, as it may be.
func TestMonitorPassesOurGuardsOver(t *testing.T) {
	h := newHost(t)
	scopes := watch(t, h)
	h.apply(t, dataplane.Create, guardRows()...)
	h.do(t, "nft add table inet theirs")
	told := <-scopes
	if got := told[dataplane.Host]; got != dataplane.Of(dataplane.TableChain, dataplane.TableJump) {
		t.Errorf("our own changes were told: %b", got)
	}
}

func senderRows() []dataplane.Element {
	rows := make([]dataplane.Element, peers)
	for i := range rows {
		rows[i] = dataplane.Peer(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 5, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 64 + byte(i>>8), byte(i), 0}), 24))
	}
	return rows
}

// BenchmarkApplySenders lets 5,000 hosts in.
func BenchmarkApplySenders(b *testing.B) {
	h := newHost(b)
	rows := senderRows()
	set := dataplane.Set{SetKey: peersKey}
	for b.Loop() {
		b.StopTimer()
		h.apply(b, dataplane.Delete, set)
		h.apply(b, dataplane.Create, set)
		b.StartTimer()
		if err := h.linux.Fill(b.Context(), rows); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*len(rows)), "µs/row")
}

// BenchmarkObserveSenders reads 5,000 of them back.
func BenchmarkObserveSenders(b *testing.B) {
	h := newHost(b)
	h.apply(b, dataplane.Create, dataplane.Set{SetKey: peersKey})
	if err := h.linux.Fill(b.Context(), senderRows()); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		s, _, err := h.linux.Observe(b.Context(), dataplane.Scope{dataplane.Host: dataplane.NFTables})
		if err != nil || len(s.Elements) != peers {
			b.Fatal(len(s.Elements), err)
		}
	}
}
