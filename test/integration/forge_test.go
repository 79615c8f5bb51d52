package integration

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// TestContainersCannotForgeTheTunnel: a frame that a container puts into VXLAN by
// itself would be masqueraded, arrive from a member host, and be let onto any
// network. It must not leave, towards another host or towards its own. The same
// frame sent by the host itself arrives, so that it is known to be well made.
func TestContainersCannotForgeTheTunnel(t *testing.T) {
	t.Parallel()
	l := labtest.Up(t, lab.Config{Hosts: 2})
	l.Run(t, "h1", "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16", "--vni", "100")
	l.Run(t, "h1", "ovlctl", "network", "create", "red", "--subnet", "10.65.0.0/16", "--vni", "101")
	attacker := l.Sandbox(t, "h1", "attacker", "--network", "blue")
	victims := map[string]labtest.Container{}
	for _, host := range []string{"h1", "h2"} {
		victims[host] = l.Sandbox(t, host, "victim-"+host, "--network", "red")
	}
	var vteps []struct{ Host, Network, VtepMac string }
	l.JSON(t, &vteps, "h1", "ovlctl", "subnet", "ls", "-o", "json")

	for _, v := range vteps {
		if v.Network != "red" {
			continue
		}
		mac, err := cluster.ParseMAC(v.VtepMac)
		if err != nil {
			t.Fatal(err)
		}
		victim := victims[v.Host]
		other := victims[map[string]string{"h1": "h2", "h2": "h1"}[v.Host]]
		frame := forged(101, mac, other.Addr(t), victim.Addr(t))
		send := func(run func(args ...string) labtest.Result) {
			t.Helper()
			// By way of a file: printf itself writes a datagram for each line.
			run("bash", "-c", fmt.Sprintf("f=$(mktemp) && printf '%s' > $f && cat $f > /dev/udp/%s/4789; rm $f", frame, addressOf(t, l, v.Host)))
		}
		before := refusedDatagrams(t, victim)
		for range 5 {
			send(func(args ...string) labtest.Result { return attacker.Do(t, args...) })
		}
		// From the other host; it also comes after all that the attacker sent.
		send(func(args ...string) labtest.Result { return l.Do(t, other.Host, args...) })
		labtest.Until(t, "the host's own frame arrives", func() error {
			if refusedDatagrams(t, victim) == before {
				return errors.New("nothing has arrived")
			}
			return nil
		})
		if got := refusedDatagrams(t, victim) - before; got != 1 {
			t.Errorf("%s got %d forged datagrams of a container on another network", victim, got-1)
		}
	}
}

// TestStrangersAreKeptOutOfTheTunnel: a frame for a network here is let in from a
// member host, and from nobody else: no stranger on the underlay, and no process of
// the host itself. Another program's tunnel on the same port is let alone.
func TestStrangersAreKeptOutOfTheTunnel(t *testing.T) {
	t.Parallel()
	for name, six := range map[string]bool{"over IPv4": false, "over IPv6": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := labtest.Up(t, lab.Config{Hosts: 2, IPv6: six})
			l.Run(t, "h1", "ovlctl", "network", "create", "red", "--subnet", "10.65.0.0/16", "--vni", "101")
			victim, other := l.Sandbox(t, "h1", "victim", "--network", "red"), l.Sandbox(t, "h2", "other", "--network", "red")
			reaches(t, other, victim.Addr(t))
			reaches(t, victim, other.Addr(t))
			strangers(t, l, victim, other)
			l.Run(t, "h1", "nft", "flush", "ruleset")
			labtest.Until(t, "the rules are back", func() error { return l.AtRest(t, "h1") })
			strangers(t, l, victim, other)
			otherTunnel(t, l)
		})
	}
}

// strangers sends forged frames to the victim from those who may not and from those
// who may.
func strangers(t *testing.T, l *labtest.Lab, victim, other labtest.Container) {
	t.Helper()
	var subnets []struct{ Host, VtepMac string }
	l.JSON(t, &subnets, "h1", "ovlctl", "subnet", "ls", "-o", "json")
	var mac cluster.MAC
	for _, s := range subnets {
		if s.Host == victim.Host {
			var err error
			if mac, err = cluster.ParseMAC(s.VtepMac); err != nil {
				t.Fatal(err)
			}
		}
	}
	frame := forged(101, mac, other.Addr(t), victim.Addr(t))
	before := refusedDatagrams(t, victim)
	for _, from := range []string{lab.Outside, lab.Outside, victim.Host, lab.Control, other.Host} { // the member last
		l.Run(t, from, "bash", "-c", fmt.Sprintf("f=$(mktemp) && printf '%s' > $f && cat $f > /dev/udp/%s/4789; rm $f", frame, addressOf(t, l, victim.Host)))
	}
	labtest.Until(t, "the member's frame arrives", func() error {
		if refusedDatagrams(t, victim) == before {
			return errors.New("nothing has arrived")
		}
		return nil
	})
	if got := refusedDatagrams(t, victim) - before; got != 1 {
		t.Errorf("%d frames arrived of strangers", got-1)
	}
}

// otherTunnel makes a tunnel on our port by hand, as another program would, to a host
// that is no member.
func otherTunnel(t *testing.T, l *labtest.Lab) {
	t.Helper()
	for host, to := range map[string]string{"h1": lab.Outside, lab.Outside: "h1"} {
		last := map[string]int{"h1": 1, lab.Outside: 2}[host]
		l.Run(t, host, "ip", "link", "add", "theirs", "type", "vxlan", "id", "999", "dstport", "4789",
			"local", addressOf(t, l, host).String(), "remote", addressOf(t, l, to).String())
		l.Run(t, host, "ip", "address", "add", fmt.Sprintf("172.30.0.%d/24", last), "dev", "theirs")
		l.Run(t, host, "ip", "link", "set", "theirs", "up")
	}
	l.Run(t, lab.Outside, "ping", "-c1", "-W5", "172.30.0.1")
}

// forged is a VXLAN frame (RFC 7348 section 5) with a UDP datagram in it, as the
// escapes of printf.
func forged(vni uint32, to cluster.MAC, from, dst netip.Addr) string {
	b := binary.BigEndian.AppendUint32([]byte{8, 0, 0, 0}, vni<<8)
	b = append(b, to[:]...)
	b = append(b, 2, 0, 0, 0, 0, 1, 8, 0)
	ip := []byte{0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0}
	ip = append(ip, from.AsSlice()...)
	ip = append(ip, dst.AsSlice()...)
	var sum uint32
	for i := 0; i < len(ip); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum))
	b = append(b, ip...)
	b = append(b, 0x27, 0x0f, 0x27, 0x0f, 0, 8, 0, 0) // port 9999 to 9999, no checksum
	var out strings.Builder
	for _, c := range b {
		fmt.Fprintf(&out, `\x%02x`, c)
	}
	return out.String()
}

// refusedDatagrams is how many datagrams for a port without a listener have
// reached a container, of both families.
func refusedDatagrams(t *testing.T, c labtest.Container) int {
	t.Helper()
	n := counter(t, c, "/proc/net/snmp", "Udp:", "NoPorts")
	for line := range strings.Lines(c.Run(t, "cat", "/proc/net/snmp6")) { // a line for each
		if value, ok := strings.CutPrefix(line, "Udp6NoPorts"); ok {
			six, err := strconv.Atoi(strings.TrimSpace(value))
			if err != nil {
				t.Fatal(err)
			}
			n += six
		}
	}
	return n
}

// counter reads a counter of a container's network from a file that has a line
// of names and then one of values for each group (proc_pid_net(5)).
func counter(t *testing.T, c labtest.Container, file, group, name string) int {
	t.Helper()
	var names []string
	for line := range strings.Lines(c.Run(t, "cat", file)) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] != group {
			continue
		}
		if names == nil {
			names = fields
			continue
		}
		if i := slices.Index(names, name); i > 0 && i < len(fields) {
			n, err := strconv.Atoi(fields[i])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no %s of %s in %s", name, group, file)
	return 0
}
