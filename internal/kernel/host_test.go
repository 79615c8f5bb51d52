package kernel_test

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/kernel"
	"github.com/ovlnet/ovl/internal/kernel/kerneltest"
	"github.com/ovlnet/ovl/internal/reconcile"
)

// host is a namespace that plays the host; its hands are ip(8), bridge(8) and
// iptables(8), so that nothing here shares code with what it tests. The test's
// goroutine stays locked to a thread in it, and programs that it starts are in
// it too.
type host struct {
	linux *kernel.Linux
}

var namespaces atomic.Int32

func newHost(t testing.TB) *host {
	t.Helper()
	for _, tool := range []string{"ip", "bridge", "iptables", "ip6tables", "nft"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is missing: install iproute2, iptables and nftables", tool)
		}
	}
	enterNew(t)
	h := &host{}
	h.do(t, "ip link set lo up")
	h.do(t, "ip link add "+kerneltest.Uplink+" type veth peer name wire0")
	h.do(t, "ip link set wire0 up")
	h.do(t, "ip addr add 192.0.2.1/24 dev "+kerneltest.Uplink)
	h.do(t, "ip addr add 2001:db8::1/64 nodad dev "+kerneltest.Uplink)
	h.do(t, "ip link set "+kerneltest.Uplink+" up")
	h.do(t, "ip route add default via 192.0.2.254")
	var err error
	if h.linux, err = kernel.New(kernel.Config{}); err != nil {
		t.Fatalf("open kernel: %v", err)
	}
	t.Cleanup(func() { _ = h.linux.Close() })
	return h
}

// enterNew moves the test to a new network namespace until it ends.
func enterNew(t testing.TB) {
	t.Helper()
	runtime.LockOSThread()
	old, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatalf("open namespace: %v", err)
	}
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("make namespace: %v", err)
	}
	t.Cleanup(func() {
		if unix.Setns(int(old.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		_ = old.Close()
	})
}

// do runs a command of plain words.
func (h *host) do(t testing.TB, command string) string {
	t.Helper()
	words := strings.Fields(command)
	out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return string(out)
}

// may runs a command that may fail, and tells whether it did not.
func (h *host) may(command string) bool {
	words := strings.Fields(command)
	return exec.Command(words[0], words[1:]...).Run() == nil
}

// Can makes a link of the kind in a namespace that goes with the command.
func (h *host) Can(kind dataplane.LinkKind) bool {
	if kind == dataplane.VLAN {
		return h.may("unshare -n ip link add link lo name probe type vlan id 2")
	}
	return h.may("unshare -n ip link add probe type " + string(kind))
}

func (h *host) Kernel() reconcile.Kernel { return h.linux }

func (h *host) Namespace(t testing.TB) dataplane.NS {
	t.Helper()
	name := fmt.Sprintf("ovl-test-%d", namespaces.Add(1))
	h.do(t, "ip netns add "+name)
	t.Cleanup(func() { h.may("ip netns del " + name) })
	h.do(t, "ip -n "+name+" link set lo up")
	return dataplane.NS("/run/netns/" + name)
}

func (h *host) RemoveNamespace(t testing.TB, ns dataplane.NS) {
	t.Helper()
	h.do(t, "ip netns del "+strings.TrimPrefix(string(ns), "/run/netns/"))
}

// ip is the ip command for a namespace.
func ip(ns dataplane.NS) string {
	if ns == dataplane.Host {
		return "ip "
	}
	return "ip -n " + strings.TrimPrefix(string(ns), "/run/netns/") + " "
}

// tc is the tc command for a namespace.
func tc(ns dataplane.NS) string { return strings.Replace(strings.TrimSpace(ip(ns)), "ip", "tc", 1) }

func (h *host) Set(t testing.TB, r dataplane.Row) {
	t.Helper()
	switch r := r.(type) {
	case dataplane.Link:
		h.setLink(t, r)
	case dataplane.Qdisc:
		h.do(t, fmt.Sprintf("%s qdisc replace dev %s root handle 4f: tbf rate %dbps burst %db limit %d", tc(r.NS), r.Link, r.Rate, uint64(r.Buffer)*64*uint64(r.Rate)/1e9, r.Limit))
	case dataplane.Addr:
		h.do(t, ip(r.NS)+"addr replace "+r.Prefix.String()+" dev "+r.Link)
	case dataplane.Sysctl:
		if err := os.WriteFile("/proc/sys/"+r.Name, []byte(r.Value), 0o644); err != nil {
			t.Fatal(err)
		}
	case dataplane.Neigh:
		h.do(t, fmt.Sprintf("%sneigh replace %s lladdr %s dev %s nud permanent", ip(r.NS), r.IP, r.MAC, r.Link))
	case dataplane.FDB:
		if !r.Dst.IsValid() {
			h.do(t, fmt.Sprintf("bridge fdb replace %s dev %s master static", r.MAC, r.Link))
			return
		}
		h.may(fmt.Sprintf("bridge fdb del %s dev %s", r.MAC, r.Link))
		h.do(t, fmt.Sprintf("bridge fdb add %s dev %s dst %s self permanent", r.MAC, r.Link, r.Dst))
	case dataplane.Chain:
		h.setChain(t, r)
	case dataplane.Element:
		if !r.Set.IsMap() {
			h.do(t, "nft add "+element(r.ElementKey))
			return
		}
		h.may("nft delete " + element(r.ElementKey)) // it cannot be changed
		h.do(t, strings.TrimSuffix("nft add "+element(r.ElementKey), "}")+": "+r.Owner.String()+" }")
	case dataplane.Guard:
		h.setGuard(t, r)
	case dataplane.Route:
		h.setRoute(t, r, "79")
	default:
		t.Fatalf("cannot set %s by hand", r)
	}
}

func (h *host) setLink(t testing.TB, r dataplane.Link) {
	t.Helper()
	if !h.may(ip(r.NS) + "link show dev " + r.Name) {
		add := fmt.Sprintf("%slink add %s type %s", ip(r.NS), r.Name, r.Kind)
		switch {
		case r.Kind == dataplane.VXLAN:
			add += fmt.Sprintf(" id %d dstport %d local %s nolearning", r.VXLAN.VNI, r.VXLAN.Port, r.VXLAN.Local)
		case r.Kind == dataplane.Macvlan && r.NS == dataplane.Host:
			add = fmt.Sprintf("ip link add link %s name %s type macvlan mode bridge", r.Parent, r.Name)
		case r.Kind == dataplane.Macvlan:
			add = fmt.Sprintf("ip link add link %s name %s netns %s type macvlan mode bridge", r.Parent, r.Name, strings.TrimPrefix(string(r.NS), "/run/netns/"))
		case r.Kind == dataplane.VLAN:
			add = fmt.Sprintf("ip link add link %s name %s type vlan id %d", r.Parent, r.Name, r.VLANID)
		case r.Peer != "" && r.NS == dataplane.Host:
			add = fmt.Sprintf("ip link add %s type veth peer name %s", r.Peer, r.Name)
		case r.Peer != "":
			add = fmt.Sprintf("ip link add %s type veth peer name %s netns %s", r.Peer, r.Name, strings.TrimPrefix(string(r.NS), "/run/netns/"))
		}
		h.do(t, add)
	}
	state := "down"
	if r.Up {
		state = "up"
	}
	master := " nomaster"
	if r.Master != "" {
		master = " master " + r.Master
	}
	h.do(t, fmt.Sprintf("%slink set dev %s address %s mtu %d %s", ip(r.NS), r.Name, r.MAC, r.MTU, state))
	h.do(t, ip(r.NS)+"link set dev "+r.Name+master)
	if r.Alias != "" {
		h.do(t, ip(r.NS)+"link set dev "+r.Name+" alias "+r.Alias)
	}
}

// element is the words of nft(8) for an element. To it an address in raw data is a
// number.
func element(k dataplane.ElementKey) string {
	at := k.Set.String() + " "
	if k.Set.Kind == dataplane.Peers {
		return fmt.Sprintf("element %s %s { %s . %d . 0x%x }", k.Set.In(), k.Set.Name(), k.Addr, k.VNI, k.From.AsSlice())
	}
	return strings.Replace(k.String(), strings.Replace(at, "set", "element", 1), strings.Replace(at, "set", "element", 1)+"{ ", 1) + " }"
}

// setGuard makes chains and rules without our comments.
func (h *host) setGuard(t testing.TB, r dataplane.Guard) {
	t.Helper()
	h.removeGuard(t, r.GuardKey)
	h.do(t, "nft add table "+r.In.String())
	var rules []string
	chain := ""
	for line := range strings.SplitSeq(r.Rules, "\n") {
		if dataplane.IsChainLine(line) {
			chain = strings.Fields(line)[1]
			h.do(t, "nft add chain "+r.In.String()+" "+strings.TrimPrefix(line, "chain "))
			continue
		}
		rules = append(rules, chain+" "+line)
	}
	for _, rule := range rules {
		h.do(t, "nft add rule "+r.In.String()+" "+rule)
	}
}

func (h *host) removeGuard(t testing.TB, k dataplane.GuardKey) {
	t.Helper()
	h.do(t, "nft flush table "+k.In.String())
	for line := range strings.Lines(h.do(t, "nft list table "+k.In.String())) {
		if name, ok := strings.CutPrefix(line, "\tchain "); ok {
			h.do(t, "nft delete chain "+k.In.String()+" "+strings.Fields(name)[0])
		}
	}
}

func iptables(f dataplane.Family, table string) string {
	if f == dataplane.IPv6 {
		return "ip6tables -w -t " + table + " "
	}
	return "iptables -w -t " + table + " "
}

func (h *host) setChain(t testing.TB, r dataplane.Chain) {
	t.Helper()
	cmd := iptables(r.Family, r.FirewallOf)
	h.may(cmd + "-N " + r.Name)
	h.do(t, cmd+"-F "+r.Name)
	for rule := range strings.Lines(r.Rules) {
		h.do(t, cmd+"-A "+r.Name+" "+rule)
	}
}

func (h *host) setRoute(t testing.TB, r dataplane.Route, protocol string) {
	t.Helper()
	cmd := fmt.Sprintf("%sroute replace %s dev %s proto %s", ip(r.NS), r.Dst, r.Link, protocol)
	if r.Via.IsValid() {
		cmd += " via " + r.Via.String()
	}
	if r.Src.IsValid() {
		cmd += " src " + r.Src.String()
	}
	if r.OnLink {
		cmd += " onlink"
	}
	if r.Spare {
		cmd += fmt.Sprintf(" metric %d", dataplane.SpareMetric)
	}
	h.do(t, cmd)
}

func (h *host) SetForeignRoute(t testing.TB, r dataplane.Route) {
	t.Helper()
	h.setRoute(t, r, "static")
}

func (h *host) SetForeignQdisc(t testing.TB, k dataplane.QdiscKey) {
	t.Helper()
	h.do(t, tc(k.NS)+" qdisc replace dev "+k.Link+" root handle 1: tbf rate 1mbit burst 10k limit 10k")
}

func (h *host) Remove(t testing.TB, k dataplane.Key) {
	t.Helper()
	switch k := k.(type) {
	case dataplane.LinkKey:
		h.do(t, ip(k.NS)+"link del "+k.Name)
	case dataplane.QdiscKey:
		h.do(t, tc(k.NS)+" qdisc del dev "+k.Link+" root")
	case dataplane.AddrKey:
		h.do(t, ip(k.NS)+"addr del "+k.Prefix.String()+" dev "+k.Link)
	case dataplane.NeighKey:
		h.do(t, fmt.Sprintf("%sneigh del %s dev %s", ip(k.NS), k.IP, k.Link))
	case dataplane.FDBKey:
		at := " self"
		if strings.HasPrefix(k.Link, dataplane.VethPrefix) {
			at = " master"
		}
		h.do(t, fmt.Sprintf("bridge fdb del %s dev %s%s", k.MAC, k.Link, at))
	case dataplane.RouteKey:
		h.do(t, ip(k.NS)+"route del "+k.Dst.String())
	case dataplane.ChainKey:
		h.do(t, iptables(k.Family, k.FirewallOf)+"-F "+k.Name)
		h.do(t, iptables(k.Family, k.FirewallOf)+"-X "+k.Name)
	case dataplane.SetKey:
		h.do(t, "nft delete "+k.String())
	case dataplane.ElementKey:
		h.do(t, "nft delete "+element(k))
	case dataplane.GuardKey:
		h.removeGuard(t, k)
	case dataplane.JumpKey:
		h.do(t, iptables(k.Family, k.FirewallOf)+"-D "+k.From+" -m comment --comment ovl:jump -j "+k.To)
	default:
		t.Fatalf("cannot remove %s by hand", k)
	}
}

// withoutCarrier takes out of a line of ip what the kernel itself changes a
// moment after a link came up: the carrier, and the link-local address.
func withoutCarrier(line string) string {
	var kept []string
	for word := range strings.FieldsSeq(line) {
		switch {
		case word == "UP", word == "DOWN", word == "UNKNOWN", word == "LOWERLAYERDOWN", word == "linkdown", strings.HasPrefix(word, "fe80:"):
		default:
			kept = append(kept, strings.NewReplacer("NO-CARRIER,", "", ",LOWER_UP", "").Replace(word))
		}
	}
	return strings.Join(kept, " ")
}

// Foreign is what the tools show, less what is ours by its name and what
// changes by itself.
func (h *host) Foreign(t testing.TB) string {
	t.Helper()
	var kept []string
	keep := func(out string, skip ...string) {
	lines:
		for line := range strings.Lines(out) {
			for _, s := range skip {
				if strings.Contains(line, s) {
					continue lines
				}
			}
			kept = append(kept, withoutCarrier(line))
		}
	}
	ours := []string{"ovb5", "ovx5", "ovx6", "ovm7", "ove0000"}
	keep(h.do(t, "ip -br link"), ours...)
	keep(h.do(t, "ip -br addr"), ours...)
	for _, family := range []string{"-4", "-6"} {
		keep(h.do(t, "ip "+family+" route show table main"), append(ours, "fe80::/64", "proto 79")...)
	}
	for _, tool := range []string{"iptables", "ip6tables"} {
		for line := range strings.Lines(h.do(t, tool+"-save")) {
			if strings.HasPrefix(line, "-A ") && !strings.Contains(line, "OVL-") {
				kept = append(kept, tool+" "+strings.TrimSpace(line))
			}
		}
	}
	return strings.Join(kept, "\n")
}
