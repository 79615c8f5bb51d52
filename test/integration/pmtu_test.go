package integration

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// narrow is the MTU of the link behind the outside.
const narrow = 1290

// beyond makes a host two routers away from the lab's hosts, behind a narrow link
// in the middle: both ends believe in their own, wider ones, and only the routers
// know better. It returns the host's address; the routers send the containers'
// range to h1.
func beyond(t *testing.T, l *labtest.Lab, ipv6 bool, containers string) netip.Addr {
	t.Helper()
	n := strings.NewReplacer("A.", "198.51.100.", "B.", "203.0.113.", "/LEN", "/24", "DEFAULT", "0.0.0.0/0")
	if ipv6 {
		n = strings.NewReplacer("A.", "2001:db8:a::", "B.", "2001:db8:b::", "/LEN", "/64", "DEFAULT", "::/0")
	}
	l.Run(t, lab.Outside, "sh", "-ec", n.Replace(fmt.Sprintf(`
		forward='echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding'
		sh -c "$forward"
		ip netns add middle
		ip netns add beyond
		ip netns exec middle sh -c "$forward"
		ip link add narrow mtu %[1]d type veth peer name narrow mtu %[1]d netns middle
		ip -n middle link add wide type veth peer name wide netns beyond
		for n in "" "-n middle"; do ip $n link set narrow up; done
		for n in middle beyond; do ip -n $n link set wide up; ip -n $n link set lo up; done
		ip address add A.1/LEN dev narrow nodad
		ip -n middle address add A.2/LEN dev narrow nodad
		ip -n middle address add B.1/LEN dev wide nodad
		ip -n beyond address add B.2/LEN dev wide nodad
		ip route add B.0/LEN via A.2
		ip -n middle route add DEFAULT via A.1
		ip -n beyond route add DEFAULT via B.1
		ip route add %[2]s via %[3]s`, narrow, containers, addressOf(t, l, "h1"))))
	return netip.MustParseAddr(n.Replace("B.2"))
}

// TestSmallerMTUOutside: a router outside says that a packet is too big for what is
// behind it. The word must reach the container, translated or not, for whoever does
// not hear it hangs: TCP in both directions, from within and to a published port.
func TestSmallerMTUOutside(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ipv6         bool
		subnet, flag string
	}{
		"four, masqueraded": {false, "10.64.0.0/16", "--internal=false"},
		"four, routed":      {false, "10.64.0.0/16", "--no-masquerade"},
		"six, routed":       {true, "fd64::/48", "--internal=false"},
		"six, translated":   {true, "fd64::/48", "--nat66"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := labtest.Up(t, lab.Config{Hosts: 1, IPv6: c.ipv6})
			l.Run(t, "h1", "ovlctl", "network", "create", "blue", "--subnet", c.subnet, c.flag)
			web := l.Sandbox(t, "h1", "web", "--network", "blue", "-p", "8080:8080")
			far := beyond(t, l, c.ipv6, c.subnet)
			labtest.Until(t, "the way is open", func() error { return web.Reaches(t, far) })

			size := 1400
			r := web.Do(t, "ping", "-n", "-c1", "-W5", "-M", "do", "-s", payload(far, size), far.String())
			if !strings.Contains(r.Stdout, fmt.Sprintf("mtu = %d", narrow)) && !strings.Contains(r.Stdout, fmt.Sprintf("mtu=%d", narrow)) {
				t.Errorf("a ping of %d bytes: %+v, want the answer that %d is the most", size, r, narrow)
			}
			web.Run(t, "ping", "-n", "-c1", "-W5", "-M", "do", "-s", payload(far, narrow), far.String())

			outside := func(args ...string) labtest.Result {
				return l.Do(t, lab.Outside, append([]string{"ip", "netns", "exec", "beyond"}, args...)...)
			}
			within := func(args ...string) labtest.Result { return web.Do(t, args...) }
			// What was learnt is forgotten, so that TCP has to learn it by itself.
			forget := func() { web.Run(t, "sh", "-ec", "ip route flush cache; ip -6 route flush cache") }
			forget()
			transfer(t, "out", outside, within, far.String(), "5201")
			forget()
			transfer(t, "in by the published port", within, outside, addressOf(t, l, "h1").String(), "8080", "-R")
		})
	}
}

// transfer sends some megabytes from a client to a server, or with -R the other
// way round.
func transfer(t *testing.T, what string, server, client func(args ...string) labtest.Result, to, port string, more ...string) {
	t.Helper()
	if r := server("iperf3", "-s", "-1", "-D", "-p", port, "-I", "/run/iperf3.pid"); r.Code != 0 {
		t.Fatalf("%s: iperf3: %s", what, r.Stderr)
	}
	labtest.Until(t, what+": the transfer", func() error {
		r := client(append([]string{"timeout", "20", "iperf3", "-c", to, "-p", port, "-n", "2M", "--connect-timeout", "2000"}, more...)...)
		if r.Code != 0 {
			return fmt.Errorf("exit code %d: %s%s", r.Code, r.Stdout, r.Stderr)
		}
		return nil
	})
}
