package cluster_test

import (
	"net/netip"
	"testing"

	"github.com/ovlnet/ovl/internal/cluster"
)

func port(proto cluster.Proto, ip string, host, container uint16) cluster.Port {
	p := cluster.Port{Proto: proto, HostPort: host, ContainerPort: container}
	if ip != "" {
		p.HostIP = netip.MustParseAddr(ip)
	}
	return p
}

func TestPortCheck(t *testing.T) {
	for _, good := range []cluster.Port{
		port("tcp", "", 1, 65535), port("udp", "0.0.0.0", 80, 80), port("tcp", "::", 80, 80),
		port("tcp", "127.0.0.1", 80, 80), port("udp", "2001:db8::1", 80, 80),
	} {
		if err := good.Check(); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []cluster.Port{
		{},
		port("sctp", "", 80, 80), port("TCP", "", 80, 80), port("tcp", "", 0, 80), port("tcp", "", 80, 0),
		port("tcp", "::1", 80, 80), port("tcp", "::ffff:10.0.0.1", 80, 80), port("tcp", "fe80::1", 80, 80),
		port("tcp", "fe80::1%eth0", 80, 80), port("tcp", "224.0.0.1", 80, 80), port("udp", "ff02::1", 80, 80),
	} {
		if bad.Check() == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
}

func TestPortClashes(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"", "", true},
		{"", "192.0.2.1", true},
		{"", "::", true},
		{"0.0.0.0", "192.0.2.1", true},
		{"0.0.0.0", "2001:db8::1", false},
		{"0.0.0.0", "::", false},
		{"::", "2001:db8::1", true},
		{"192.0.2.1", "192.0.2.1", true},
		{"192.0.2.1", "192.0.2.2", false},
		{"127.0.0.1", "192.0.2.1", false},
	} {
		a, b := port("tcp", c.a, 80, 8080), port("tcp", c.b, 80, 9090)
		if a.Clashes(b) != c.want || b.Clashes(a) != c.want {
			t.Errorf("%s and %s clash: %v and %v, want %v", a, b, a.Clashes(b), b.Clashes(a), c.want)
		}
		udp, other := port("udp", c.b, 80, 8080), port("tcp", c.b, 81, 8080)
		if a.Clashes(udp) || a.Clashes(other) {
			t.Errorf("%s clashes with another protocol or port", a)
		}
	}
}

func TestPortString(t *testing.T) {
	for want, p := range map[string]cluster.Port{
		"8080:80/tcp":               port("tcp", "", 8080, 80),
		"192.0.2.1:8080:80/udp":     port("udp", "192.0.2.1", 8080, 80),
		"[2001:db8::1]:8080:80/tcp": port("tcp", "2001:db8::1", 8080, 80),
	} {
		if got := p.String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
