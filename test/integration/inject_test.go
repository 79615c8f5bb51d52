package integration

import (
	"encoding/hex"
	"flag"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

var update = flag.Bool("update", false, "write docs/design/injection.md anew")

const injectionList = "../../docs/design/injection.md"

// TestInjection: of all frames that somebody may send to get onto a network, those
// arrive that are right, and no others. Without the guards all arrive that the kernel
// itself does not refuse, so that each of them is known to be well made. What it tells is
// docs/design/injection.md.
func TestInjection(t *testing.T) {
	t.Parallel()
	var told [2][]verdict
	t.Run("all", func(t *testing.T) {
		for i, name := range []string{"over IPv4", "over IPv6"} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				told[i] = inject(t, i == 1)
			})
		}
	})
	if !t.Failed() {
		compareList(t, told)
	}
}

// verdict is what became of a shot.
type verdict struct {
	from, what    string
	guarded, bare bool // arrived
}

// inject shoots all that there is at h1, with its guards and without.
func inject(t *testing.T, six bool) []verdict {
	t.Helper()
	l := labtest.Up(t, lab.Config{Hosts: 3, IPv6: six})
	x := aim(t, l, six)
	for _, x.inner6 = range []bool{false, true} {
		x.liar()
		x.absent()
		x.strangers()
		x.moles()
		x.aliens()
	}
	guarded := x.fire(l)
	if err := l.Kill(t.Context(), "h1", lab.Agent); err != nil {
		t.Fatal(err)
	}
	l.Run(t, "h1", "sh", "-c", "nft delete table inet ovl; nft delete table bridge ovl; iptables -t raw -F OVL-PREROUTING; ip6tables -t raw -F OVL-PREROUTING")
	bare := x.fire(l)
	var told []verdict
	for i, s := range x.shots {
		if s.what == "" {
			continue
		}
		told = append(told, verdict{s.from, strings.Trim(s.what, "<>"), guarded[i], bare[i]})
		if guarded[i] != s.arrives {
			t.Errorf("%s arrives: %v, want %v", s.what, guarded[i], s.arrives)
		}
		if bare[i] != s.bare {
			t.Errorf("%s arrives without guards: %v, want %v", s.what, bare[i], s.bare)
		}
	}
	return told
}

// aim makes the networks and the containers, and looks where all are.
func aim(t *testing.T, l *labtest.Lab, six bool) *target {
	t.Helper()
	x := &target{t: t, underlay6: six}
	l.Run(t, "h1", "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16", "--subnet", "fd64::/48", "--vni", fmt.Sprint(blue))
	l.Run(t, "h1", "ovlctl", "network", "create", "red", "--subnet", "10.65.0.0/16", "--subnet", "fd65::/48", "--vni", fmt.Sprint(red))
	on := func(host, name, network string) (labtest.Container, party) {
		c := l.Sandbox(t, host, name, "--network", network)
		return c, partyOf(t, c, "eth0")
	}
	var victim, mole, far, bystander, third labtest.Container
	victim, x.victim = on("h1", "victim", "blue")
	_, x.neighbour = on("h1", "neighbour", "blue")
	bystander, x.bystander = on("h1", "bystander", "red")
	mole, x.mole = on("h1", "mole", "red")
	far, x.far = on("h2", "far", "blue")
	_, x.farRed = on("h2", "far-red", "red")
	third, x.third = on("h3", "third", "blue")
	x.gateway, x.redGateway, x.farGateway = gatewayParty(t, victim, "eth0"), gatewayParty(t, mole, "eth0"), gatewayParty(t, far, "eth0")
	x.ears = []aimedEar{
		{onTarget, victim, "eth0", []string{"ovlctl", "exec", victim.Name, "--"}},
		{onTarget, bystander, "eth0", []string{"ovlctl", "exec", bystander.Name, "--"}},
		{onOther, far, "eth0", []string{"ovlctl", "exec", far.Name, "--"}},
		{tunnelEnd, labtest.Container{Lab: l, Host: "h1", Name: "the tunnel's end"}, "ovx" + fmt.Sprint(blue), nil},
	}
	for _, c := range []labtest.Container{far, third} {
		for _, to := range []labtest.Container{victim, far} {
			if c == to {
				continue
			}
			for _, a := range to.Addrs(t, "eth0") {
				reaches(t, c, a)
			}
		}
	}
	x.h1, x.h2, x.h3, x.outside = endOf(t, l, "h1"), endOf(t, l, "h2"), endOf(t, l, "h3"), endOf(t, l, lab.Outside)
	x.otherBridge(l)
	return x
}

// endOf looks where a host is.
func endOf(t *testing.T, l *labtest.Lab, host string) end {
	t.Helper()
	e := end{addr: addressOf(t, l, host).AsSlice(), vteps: map[uint32]net.HardwareAddr{}}
	e.mac = macOf(t, l, host, "eth0")
	if host == lab.Outside {
		return e
	}
	var all []struct{ Host, Network, VtepMac string }
	l.JSON(t, &all, host, "ovlctl", "subnet", "ls", "-o", "json")
	for _, v := range all {
		if v.Host == host {
			mac, err := net.ParseMAC(v.VtepMac)
			if err != nil {
				t.Fatal(err)
			}
			e.vteps[map[string]uint32{"blue": blue, "red": red}[v.Network]] = mac
		}
	}
	return e
}

func macOf(t *testing.T, l *labtest.Lab, host, link string, within ...string) net.HardwareAddr {
	t.Helper()
	var links []struct{ Address string }
	l.JSON(t, &links, host, append(within, "ip", "-j", "link", "show", "dev", link)...)
	mac, err := net.ParseMAC(links[0].Address)
	if err != nil {
		t.Fatal(err)
	}
	return mac
}

// otherBridge makes a bridge on h1 with a container, as another program would, which
// masquerades what leaves it.
func (x *target) otherBridge(l *labtest.Lab) {
	x.t.Helper()
	for _, c := range []string{
		"ip link add theirs type bridge", "ip address add 172.31.0.1/24 dev theirs", "ip address add fd31::1/64 dev theirs nodad", "ip link set theirs up",
		"ip netns add alien", "ip link add alien type veth peer name eth0 netns alien", "ip link set alien master theirs up",
		"ip -n alien link set eth0 up", "ip -n alien address add 172.31.0.2/24 dev eth0", "ip -n alien address add fd31::2/64 dev eth0 nodad",
		"iptables -t nat -A POSTROUTING -s 172.31.0.0/24 ! -o theirs -j MASQUERADE", "ip6tables -t nat -A POSTROUTING -s fd31::/64 ! -o theirs -j MASQUERADE",
	} {
		l.Run(x.t, "h1", strings.Fields(c)...)
	}
	x.alien = party{mac: macOf(x.t, l, "h1", "eth0", "ip", "netns", "exec", "alien"), four: net.IPv4(172, 31, 0, 2).To4(), six: net.ParseIP("fd31::2")}
	x.alienGateway = party{mac: macOf(x.t, l, "h1", "theirs"), four: net.IPv4(172, 31, 0, 1).To4(), six: net.ParseIP("fd31::1")}
}

// fire sends all that was aimed, sender by sender, and returns which of it arrived.
func (x *target) fire(l *labtest.Lab) []bool {
	x.t.Helper()
	var ears []*ear
	for _, e := range x.ears {
		ears = append(ears, listenOn(x.t, l, e.who, e.link, lastFrame, e.within...))
	}
	senders := map[string]struct {
		host, link string
		within     []string
	}{
		"member": {"h2", "eth0", nil}, "member on another network": {"h3", "eth0", nil}, "stranger": {lab.Outside, "eth0", nil},
		"container": {"h1", "eth0", []string{"ovlctl", "exec", "mole", "--"}}, "container on another bridge": {"h1", "eth0", []string{"ip", "netns", "exec", "alien"}},
	}
	for name, from := range senders {
		var frames [][]byte
		for _, s := range x.shots {
			if s.from == name {
				frames = append(frames, s.frame)
			}
		}
		sendOn(x.t, l, from.host, from.link, frames, from.within...)
	}
	x.ceaseFire(l)
	arrived := make([]bool, len(x.shots))
	for i, e := range ears {
		at := x.ears[i].at
		heard := e.heard(x.t)
		for j, s := range x.shots {
			if s.what != "" && s.at == at && holds(heard, s.what) {
				arrived[j] = true
			}
		}
		if unknown := slices.DeleteFunc(heard, func(f []byte) bool {
			return slices.ContainsFunc(x.shots, func(s shot) bool { return s.what != "" && tells(f, s.what) }) || tells(f, lastFrame)
		}); at == tunnelEnd && len(unknown) > 0 {
			x.unknown(unknown)
		}
	}
	return arrived
}

// unknown judges what came out of the tunnel and has no mark: it must be the rest of
// something in pieces.
func (x *target) unknown(frames [][]byte) {
	x.t.Helper()
	for _, f := range frames {
		if len(f) >= 14+20 && (f[12] == 8 && f[13] == 0 && f[20]&0x1f|f[21] != 0 || f[12] == 0x86 && f[20] == 44) {
			continue
		}
		x.t.Errorf("out of the tunnel came %s", hex.EncodeToString(f))
	}
}

// ceaseFire sends the last frame to each ear.
func (x *target) ceaseFire(l *labtest.Lab) {
	x.t.Helper()
	inner := func(vni uint32, from, to end, src, dst party) []byte {
		return encapsulated(vni, datagram(x.t, lastFrame, from.vteps[vni], to.vteps[vni], src.four, dst.four))
	}
	send := func(host string, from, to end, payloads ...[]byte) {
		var frames [][]byte
		for _, p := range payloads {
			frames = append(frames, packetOf(x.t, from.mac, to.mac, from.addr, to.addr, 17, datagramOf(x.t, from.addr, to.addr, 49152, tunnelPort, p)))
		}
		sendOn(x.t, l, host, "eth0", frames)
	}
	send("h2", x.h2, x.h1, inner(blue, x.h2, x.h1, x.far, x.victim), inner(red, x.h2, x.h1, x.farRed, x.bystander))
	send("h3", x.h3, x.h2, inner(blue, x.h3, x.h2, x.third, x.far))
}

// compareList compares what was seen with what the documentation lists.
func compareList(t *testing.T, told [2][]verdict) {
	t.Helper()
	type row struct{ from, what string }
	rows := map[row]*[4]string{} // underlay by inner family
	for underlay, verdicts := range told {
		for _, v := range verdicts {
			family, what, _ := strings.Cut(strings.TrimPrefix(v.what, v.from+", "), ": ")
			r := row{v.from, what}
			if rows[r] == nil {
				rows[r] = &[4]string{"", "", "", ""}
			}
			said := "–"
			switch {
			case v.guarded:
				said = "**arrives**"
			case v.bare:
				said = "dropped"
			}
			inner := map[string]int{"IPv4": 0, "IPv6": 1}[family]
			rows[r][underlay*2+inner] = said
		}
	}
	var b strings.Builder
	last := ""
	sorted := slices.SortedFunc(maps.Keys(rows), func(a, b row) int { return strings.Compare(a.from+"\x00"+a.what, b.from+"\x00"+b.what) })
	for _, r := range sorted {
		if r.from != last {
			fmt.Fprintf(&b, "\n## From a %s\n\n| frame | 4 in 4 | 6 in 4 | 4 in 6 | 6 in 6 |\n|---|---|---|---|---|\n", r.from)
			last = r.from
		}
		fmt.Fprintf(&b, "| %s | %s |\n", r.what, strings.Join(rows[r][:], " | "))
	}
	t.Logf("what became of each frame:\n%s", b.String())
	page, err := os.ReadFile(injectionList)
	if err != nil {
		t.Fatal(err)
	}
	head, _, _ := strings.Cut(string(page), "\n## From a ")
	want := head + b.String()
	if *update {
		if err := os.WriteFile(injectionList, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(page) != want {
		t.Errorf("%s lists something else: go test ./test/integration -run TestInjection -update", injectionList)
	}
}
