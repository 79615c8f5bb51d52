package integration

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// TestNothingButUnicastLeavesAHost captures the underlay and the tunnels of all
// hosts while containers start, talk and shout.
func TestNothingButUnicastLeavesAHost(t *testing.T) {
	t.Parallel()
	for name, ipv6 := range map[string]bool{"over four": false, "over six": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			quiet(t, ipv6)
		})
	}
}

func quiet(t *testing.T, ipv6 bool) {
	t.Helper()
	l := labtest.Up(t, lab.Config{Hosts: 3, IPv6: ipv6})
	l.Run(t, "h1", "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16", "--subnet", "fd64::/48", "--vni", "100", "--nat66")
	l.Run(t, "h1", "ovlctl", "network", "create", "red", "--subnet", "10.65.0.0/16", "--subnet", "fd65::/48", "--vni", "101", "--nat66")
	captures := captureAll(t, l)
	blue, red := onEach(t, l, "blue"), onEach(t, l, "red")
	complete(t, blue)
	complete(t, red)
	for _, c := range blue {
		name := "blue-h3"
		if c.Name == name {
			name = "blue-h1"
		}
		knows(t, c, name+".blue", "NOERROR "+blueAddr(t, blue, name).String())
		digs(t, c, map[string]string{"nope.blue": "NXDOMAIN"})
		ask(t, c, addressOf(t, l, lab.Outside))
	}
	w := wireOf(t, l, append(blue, red...))
	for _, c := range append(blue, red...) {
		shout(t, w, c)
	}
	complete(t, blue) // what comes now comes after all that
	complete(t, red)

	frames := collect(t, captures)
	for i, leak := range w.leaks(frames) {
		if t.Error(leak); i == 20 {
			break
		}
	}
	w.sawAll(t, frames, ipv6)
	for _, c := range append(blue, red...) {
		// A packet for the broadcast address of another host's subnet is a unicast
		// one until it is there, and there it ends (RFC 2644).
		if got := counter(t, c, "/proc/net/netstat", "IpExt:", "InBcastPkts"); got != 0 {
			t.Errorf("%s has got %d broadcasts, and nobody shares its bridge", c, got)
		}
	}
	atRest(t, l)

	t.Run("a leak would be seen", func(t *testing.T) { leaky(t, l, w, blue) })
}

// leaky makes h1 flood by hand, while its agent is away, and sees it; then the
// agent comes back and it is over.
func leaky(t *testing.T, l *labtest.Lab, w *wire, blue []labtest.Container) {
	t.Helper()
	if err := l.Stop(t.Context(), "h1", lab.Agent); err != nil {
		t.Fatal(err)
	}
	flood := "bridge fdb append 00:00:00:00:00:00 dev ovx100 dst " + addressOf(t, l, "h2").String()
	l.Run(t, "h1", strings.Fields(flood)...)
	l.Run(t, "h1", "ip", "link", "set", "ovx100", "master", "ovb100")
	captures := captureAll(t, l)
	shout(t, w, blue[0])
	leaks := w.leaks(collect(t, captures))
	for _, want := range []string{"ARP\t", "DstIP=224.0.0.251 ", "DstIP=255.255.255.255 ", "ICMPv6NeighborSolicitation\t", "DstIP=ff02::1:2 "} {
		if !slices.ContainsFunc(leaks, func(s string) bool { return strings.Contains(s, "h1 eth0: ") && strings.Contains(s, want) }) {
			t.Errorf("h1 floods, and nobody sees %q on its underlay among %d leaks", want, len(leaks))
		}
	}
	t.Logf("%d leaks of a host that floods", len(leaks))

	if err := l.Start(t.Context(), "h1", lab.Agent); err != nil {
		t.Fatal(err)
	}
	labtest.Until(t, "h1 is at rest", func() error { return l.AtRest(t, "h1") })
	for range 2 {
		labtest.Until(t, "h1 floods no more", func() error {
			if out := l.Run(t, "h1", "bridge", "fdb", "show", "dev", "ovx100"); strings.Contains(out, "00:00:00:00:00:00") {
				return fmt.Errorf("it has %s", out)
			}
			return nil
		})
		l.Run(t, "h1", strings.Fields(flood)...) // under the eyes of the agent
	}
	complete(t, blue)
}

func captureAll(t *testing.T, l *labtest.Lab) []*capture {
	t.Helper()
	var all []*capture
	for _, host := range l.Members() {
		all = append(all, startCapture(t, l, host))
	}
	return all
}

func collect(t *testing.T, captures []*capture) []frame {
	t.Helper()
	var frames []frame
	for _, c := range captures {
		frames = append(frames, c.stop(t)...)
	}
	return frames
}

func blueAddr(t *testing.T, blue []labtest.Container, name string) netip.Addr {
	t.Helper()
	i := slices.IndexFunc(blue, func(c labtest.Container) bool { return c.Name == name })
	return blue[i].Addrs(t, "eth0")[0]
}

// wireOf learns from the kernels who is who.
func wireOf(t *testing.T, l *labtest.Lab, containers []labtest.Container) *wire {
	t.Helper()
	w := &wire{hosts: map[netip.Addr]string{}, macs: map[string]string{}, vteps: map[vtep]string{}}
	for _, h := range l.Hosts() {
		var links []struct {
			Name, Address string
			AddrInfo      []struct{ Local netip.Addr } `json:"addr_info"`
		}
		l.JSON(t, &links, h.Name, "ip", "-j", "address", "show", "dev", "eth0")
		for _, link := range links {
			w.macs[link.Address] = h.Name
			for _, a := range link.AddrInfo {
				w.hosts[a.Local] = h.Name
			}
		}
	}
	for _, c := range containers {
		for link, vni := range map[string]uint32{"ovx100": 100, "ovx101": 101} {
			w.vteps[vtep{c.Host, vni}] = l.Run(t, c.Host, "cat", "/sys/class/net/"+link+"/address")
		}
		for _, a := range c.Addrs(t, "eth0") {
			bits := 24
			if a.Is6() {
				bits = 64
			}
			p, err := a.Prefix(bits)
			if err != nil {
				t.Fatal(err)
			}
			w.near = append(w.near, p)
		}
	}
	for _, s := range []string{"10.64.0.0/16", "10.65.0.0/16", "fd64::/48", "fd65::/48"} {
		w.pools = append(w.pools, netip.MustParsePrefix(s))
	}
	return w
}

// shout sends a container's noise.
func shout(t *testing.T, w *wire, c labtest.Container) {
	t.Helper()
	parse := func(s string) net.HardwareAddr {
		mac, err := net.ParseMAC(s)
		if err != nil {
			t.Fatal(err)
		}
		return mac
	}
	own := c.Addrs(t, "eth0")
	bridge := "ovb100"
	if strings.HasPrefix(c.Name, "red") {
		bridge = "ovb101"
	}
	gateway := parse(c.Lab.Run(t, c.Host, "cat", "/sys/class/net/"+bridge+"/address"))
	mac := parse(c.Run(t, "cat", "/sys/class/net/eth0/address"))
	var strangers []net.HardwareAddr
	for _, m := range w.vteps {
		strangers = append(strangers, parse(m))
	}
	var targets []netip.Addr
	for _, p := range w.near {
		first := p.Addr().Next()
		targets = append(targets, p.Addr(), first, first.Next(), first.Next().Next().Next()) // the peer's, its gateway, a container, nobody
		if p.Addr().Is4() {
			targets = append(targets, broadcastOf(p))
		}
	}
	targets = append(targets, netip.MustParseAddr("10.64.255.77"), netip.MustParseAddr("fd64:0:0:ffff::77")) // of no host
	sendFrames(t, c, "eth0", noiseOf(t, mac, gateway, own, targets, addressOf(t, c.Lab, lab.Outside), strangers))
}

// leaks returns what is wrong with the frames.
func (w *wire) leaks(frames []frame) []string {
	var leaks []string
	for _, f := range frames {
		if why := w.leak(f); why != "" {
			leaks = append(leaks, why+": "+f.String())
		}
	}
	return leaks
}

// sawAll checks that the frames are those of a network in use: a capture that
// sees nothing finds nothing wrong.
func (w *wire) sawAll(t *testing.T, frames []frame, ipv6 bool) {
	t.Helper()
	type way struct {
		from, to string
		vni      uint32
		four     bool
	}
	ways, devices, out := map[way]int{}, map[string]int{}, 0
	for _, f := range frames {
		devices[f.host+" "+f.link]++
		ip, ok := parseIP(f.packet.Layers())
		if !ok || f.link != "eth0" {
			continue
		}
		if w.hosts[ip.dst] == lab.Outside && f.packet.Layer(layers.LayerTypeTCP) != nil {
			out++
		}
		v, ok := f.packet.Layer(layers.LayerTypeVXLAN).(*layers.VXLAN)
		if !ok {
			continue
		}
		inner, _ := parseIP(f.packet.Layers()[slices.Index(f.packet.Layers(), f.packet.Layer(layers.LayerTypeVXLAN))+1:])
		ways[way{w.hosts[ip.src], w.hosts[ip.dst], v.VNI, inner.src.Is4()}]++
	}
	if want := 3 * 2 * 2 * 2; len(ways) != want { // pairs of hosts, networks, families
		t.Errorf("frames of the tunnel went %d ways, want %d: %v", len(ways), want, ways)
	}
	if len(devices) != 9 || out == 0 {
		t.Errorf("captured on %v, %d frames to the outside", devices, out)
	}
	t.Logf("%d frames, IPv6 underlay %v", len(frames), ipv6)
}
