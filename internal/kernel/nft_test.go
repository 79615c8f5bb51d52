package kernel_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
)

var membersKey = dataplane.SetKey{Kind: dataplane.Members, Family: dataplane.IPv4}

// guardRows are one of each kind of row in nf_tables.
func guardRows() []dataplane.Row {
	source := dataplane.Source("ove1", cluster.MAC{2, 0, 0, 0, 0, 9}, netip.MustParseAddr("10.64.1.2"))
	return []dataplane.Row{
		dataplane.Set{SetKey: membersKey},
		dataplane.Set{SetKey: source.Set},
		dataplane.Member(netip.MustParseAddr("192.0.2.9")), source,
		dataplane.NewGuard(dataplane.NFInet, "chain arrivals { type filter hook input priority -310; }", "ip saddr @members_ipv4 accept"),
		dataplane.NewGuard(dataplane.NFBridge, "chain frames { type filter hook prerouting priority -300; }",
			"meta iifname . ether saddr . ip saddr @sources_ipv4 accept"),
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
		"a set of another type": {"nft add table inet ovl", "nft add set inet ovl members_ipv4 { type ether_addr; }"},
		"a set with intervals":  {"nft add table inet ovl", "nft add set inet ovl members_ipv4 { type ipv4_addr; flags interval; }"},
		"a set that a rule uses": {
			"nft add table inet ovl", "nft add set inet ovl members_ipv4 { type ether_addr; }", "nft add chain inet ovl c",
			"nft add rule inet ovl c ether saddr @members_ipv4 drop",
		},
		"a chain of another hook": {"nft add table inet ovl", "nft add chain inet ovl arrivals { type filter hook output priority 0; policy drop; }"},
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

func memberRows() []dataplane.Element {
	rows := make([]dataplane.Element, peers)
	for i := range rows {
		rows[i] = dataplane.Member(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}))
	}
	return rows
}

// BenchmarkApplyMembers lets 5,000 hosts in.
func BenchmarkApplyMembers(b *testing.B) {
	h := newHost(b)
	rows := memberRows()
	set := dataplane.Set{SetKey: membersKey}
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

// BenchmarkObserveMembers reads 5,000 of them back.
func BenchmarkObserveMembers(b *testing.B) {
	h := newHost(b)
	h.apply(b, dataplane.Create, dataplane.Set{SetKey: membersKey})
	if err := h.linux.Fill(b.Context(), memberRows()); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		s, _, err := h.linux.Observe(b.Context(), dataplane.Scope{dataplane.Host: dataplane.NFTables})
		if err != nil || len(s.Elements) != peers {
			b.Fatal(len(s.Elements), err)
		}
	}
}
