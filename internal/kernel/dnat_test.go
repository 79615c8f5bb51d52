package kernel

import (
	"net/netip"
	"testing"
)

// TestRulesOfNoPort: only what is of the form, word by word, is written without iptables.
func TestRulesOfNoPort(t *testing.T) {
	for _, rule := range []string{
		"", "-j ACCEPT",
		"-p sctp -m sctp --dport 80 -j DNAT --to-destination 10.64.1.2:80",
		"-p tcp -m udp --dport 80 -j DNAT --to-destination 10.64.1.2:80",
		"-p tcp -m tcp --sport 80 -j DNAT --to-destination 10.64.1.2:80",
		"-p tcp -m tcp --dport 80:90 -j DNAT --to-destination 10.64.1.2:80",
		"-p tcp -m tcp --dport 080 -j DNAT --to-destination 10.64.1.2:80",
		"-p tcp -m tcp --dport 65536 -j DNAT --to-destination 10.64.1.2:80",
		"-p tcp -m tcp --dport 80 -j DNAT --to-destination 10.64.1.2",
		"-p tcp -m tcp --dport 80 -j DNAT --to-destination 10.64.1.2:80-90",
		"-p tcp -m tcp --dport 80 -j DNAT --to-destination [fe80::1%eth0]:80",
		"-p tcp -m tcp --dport 80 -j DNAT --to-destination [::ffff:10.64.1.2]:80",
		"-p tcp -m tcp --dport 80 -j REDIRECT --to-destination 10.64.1.2:80",
		"-p tcp  -m tcp --dport 80 -j DNAT --to-destination 10.64.1.2:80",
		"-d 192.0.2.0/24 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.64.1.2:80",
		"-d 2001:db8::1/128 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.64.1.2:80",
		"-s 192.0.2.1/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.64.1.2:80",
		"! -d 192.0.2.1/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.64.1.2:80",
	} {
		if d, ok := parseDNAT(rule); ok {
			t.Errorf("%q was read as %+v", rule, d)
		}
	}
}

// FuzzDNAT: what is read as a rule of a port is that rule and nothing less.
func FuzzDNAT(f *testing.F) {
	for _, rule := range []string{
		"-p tcp -m tcp --dport 80 -j DNAT --to-destination 10.64.1.2:80",
		"-d 192.0.2.1/32 -p udp -m udp --dport 53 -j DNAT --to-destination 10.64.1.2:53",
		"-d 2001:db8::1/128 -p tcp -m tcp --dport 80 -j DNAT --to-destination [fd64::2]:80",
	} {
		f.Add(rule)
	}
	f.Fuzz(func(t *testing.T, rule string) {
		d, ok := parseDNAT(rule)
		if !ok {
			return
		}
		if d.String() != rule || !d.to.IsValid() || d.at != (netip.Addr{}) && d.at.Is4() != d.to.Addr().Is4() {
			t.Errorf("%q was read as %+v", rule, d)
		}
		if size := len(d.destination()); size%xtAlign != 0 || len(d.ports())%4 != 0 {
			t.Errorf("%q: parameters of %d bytes", rule, size)
		}
	})
}
