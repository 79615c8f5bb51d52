package kernel

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
)

// TestRulesThatAreNone: what compile does not know it refuses, it never leaves a
// part of a rule out.
func TestRulesThatAreNone(t *testing.T) {
	for rule, want := range map[string]string{
		"tcp dport 80 drop":                     `"tcp dport" is no field`,
		"udp dport":                             `"" is no value of udp dport`,
		"udp dport 65536 drop":                  `"65536" is no value of udp dport`,
		"meta l4proto sctp drop":                `"sctp" is no value of meta l4proto`,
		`meta iifname "*" drop`:                 `"*" is no beginning of a link's name`,
		"ip saddr ::1 drop":                     `"::1" is no value of ip saddr`,
		"meta iifname . ip saddr 10.0.0.1 drop": `"10.0.0.1" is no set`,
		"@nh,4,8 0x00 drop":                     `"@nh,4,8" is no field`,
		"@ll,0,48 0x00 drop":                    `"@ll,0,48" is no field`,
		"@th,0,32 0x00 drop":                    `"0x00" is no value of @th,0,32`,
		"ip6 saddr != 0xzz drop":                `"0xzz" is no value of ip6 saddr`,
		"ip saddr > @networks drop":             `"@networks" is no value of ip saddr`,
		"ip saddr & 0xff drop":                  `"0xff" is no value of a mask`,
		"ip saddr & drop":                       `"drop" is no value of a mask`,
		"ip6 saddr . ip6 saddr . ip6 saddr . ip6 saddr . ip saddr @x drop": "so many fields fit into no registers",
		"ip saddr set 0x01 accept":                     `"ip saddr" cannot be set`,
		"ether daddr set":                              `ether daddr is set to nothing`,
		"ether daddr set 0x01":                         `"0x01" is no field`,
		"ether daddr set arp daddr ip @owners_ipv4":    `"@owners_ipv4" stands where a map should`,
		"ether daddr set arp daddr ip map owners":      `a map has no name`,
		"counter reject":                               `"reject" is no field`,
		strings.Repeat("counter ", 20) + "meta mark 1": `"meta mark" is no field`,
	} {
		_, err := compile(rule)
		if err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("compile %q: %v; want %s", rule, err, want)
		}
	}
}

// FuzzCompile: rules are our own, but compile must not trust that.
func FuzzCompile(f *testing.F) {
	for _, rule := range []string{
		"udp dport 4789 goto tunnel", "@th,96,24 != @networks accept", "counter drop", "ip6 saddr != :: accept",
		"@th,224,16 0x86dd @th,296,8 != 0xff ip saddr . @th,96,24 . @th,304,128 & 0xffffffffffff00000000000000000000 @peers_ipv6_48_over_ipv4 accept",
		"@nh,0,48 0x000108000604 meta iifname . ether saddr . arp saddr ip @sources_ipv4 accept",
		"ether daddr & 01:00:00:00:00:00 == 01:00:00:00:00:00 ether daddr set fe:6f:76:6c:00:01 accept",
		"icmpv6 type 135 ether daddr set icmpv6 taddr map @owners_ipv6 accept",
	} {
		f.Add(rule)
	}
	f.Fuzz(func(t *testing.T, rule string) {
		if e, err := compile(rule); err == nil && e == nil {
			t.Error("neither expressions nor an error")
		}
	})
}

// FuzzElement: what a hand puts into a set of ours comes back as something that
// can be deleted again, or not at all.
func FuzzElement(f *testing.F) {
	for _, e := range []dataplane.Element{
		dataplane.Peer(netip.MustParseAddr("192.0.2.1"), 5, netip.MustParsePrefix("10.64.2.0/24")),
		dataplane.Peer(netip.MustParseAddr("2001:db8::1"), 1<<24-1, netip.MustParsePrefix("fd64::/64")), dataplane.OnHost(5),
		dataplane.Owner(netip.MustParseAddr("10.64.1.2"), cluster.MAC{2}), dataplane.Owner(netip.MustParseAddr("fe80::2"), cluster.MAC{2}),
		dataplane.Source("ove0", cluster.MAC{2}, netip.MustParseAddr("10.64.1.2")), dataplane.Source("ove0123456789ab", cluster.MAC{2}, netip.MustParseAddr("::")),
	} {
		f.Add(e.Set.Name(), elementKey(e.ElementKey))
	}
	f.Fuzz(func(t *testing.T, name string, key []byte) {
		set, ok := setNamed(name)
		if ok && set.Name() != name {
			t.Errorf("%q is the name of %s", name, set)
		}
		e, is := elementOf(set, key)
		if !ok || !is {
			return
		}
		if back := elementKey(e.ElementKey); !bytes.Equal(back, key) {
			t.Errorf("%s: %x came back as %x", e, key, back)
		}
	})
}
