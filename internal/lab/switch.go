package lab

import (
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// underlay is the network between the hosts: one bridge, "the switch", in the
// keeper's network namespace, with a port for each host.
type underlay struct {
	config Config
	bridge *netlink.Bridge
}

const (
	switchName = "switch"
	hostLink   = "eth0" // of every host
)

// port returns the name of a host's port on the switch.
func port(host string) string { return "p-" + host }

// hardware returns the MAC of the host with the given part: locally
// administered, the same in every lab, so that captures are readable.
func hardware(part int) net.HardwareAddr {
	return net.HardwareAddr{0x02, 0x77, 0, 0, 0, byte(part)}
}

// newUnderlay makes the switch. It has an address, from which the keeper asks
// the controller whether it is ready.
func newUnderlay(c Config) (*underlay, error) {
	if err := noForwarding(); err != nil {
		return nil, err
	}
	if err := loopbackUp(netlink.Handle{}); err != nil {
		return nil, err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = switchName, c.MTU, hardware(partSwitch)
	off := false
	u := &underlay{config: c, bridge: &netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &off}}
	if err := netlink.LinkAdd(u.bridge); err != nil {
		return nil, fmt.Errorf("add bridge %s: %w", switchName, err)
	}
	if err := addAddress(&netlink.Handle{}, u.bridge, c, partSwitch); err != nil {
		return nil, err
	}
	if err := netlink.LinkSetUp(u.bridge); err != nil {
		return nil, fmt.Errorf("set bridge %s up: %w", switchName, err)
	}
	return u, nil
}

// noForwarding makes the switch no router: a new network namespace takes the
// forwarding sysctl from the machine (net.core.devconf_inherit_init_net), and
// a router would deliver what [underlay.apart] diverts to it.
func noForwarding() error {
	for _, path := range []string{"/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"} {
		err := os.WriteFile(path, []byte("0"), 0)
		if err != nil && !os.IsNotExist(err) { // a kernel without IPv6
			return fmt.Errorf("set %s: %w", path, err)
		}
	}
	return nil
}

// plug joins the namespace of the process pid to the switch and gives it its
// address and, but for the stranger itself, its default route.
func (u *underlay) plug(host string, part, pid int) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.MasterIndex = port(host), u.config.MTU, u.bridge.Index
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerMTU, veth.PeerHardwareAddr = hostLink, uint32(u.config.MTU), hardware(part)
	veth.PeerNamespace = netlink.NsPid(pid)
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("add veth %s: %w", veth.Name, err)
	}
	if err := netlink.LinkSetUp(veth); err != nil {
		return fmt.Errorf("set %s up: %w", veth.Name, err)
	}
	return u.inside(pid, func(h *netlink.Handle) error { return u.address(h, part) })
}

// address sets up the links of a host, within its namespace.
func (u *underlay) address(h *netlink.Handle, part int) error {
	if err := loopbackUp(*h); err != nil {
		return err
	}
	link, err := h.LinkByName(hostLink)
	if err != nil {
		return fmt.Errorf("find %s: %w", hostLink, err)
	}
	if err := addAddress(h, link, u.config, part); err != nil {
		return err
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", hostLink, err)
	}
	if part == partOutside {
		return nil
	}
	everywhere := u.config.everywhere()
	route := &netlink.Route{
		LinkIndex: link.Attrs().Index,
		Dst:       &net.IPNet{IP: everywhere.Addr().AsSlice(), Mask: net.CIDRMask(0, everywhere.Addr().BitLen())},
		Gw:        u.config.address(partOutside).Addr().AsSlice(),
	}
	if err := h.RouteAdd(route); err != nil {
		return fmt.Errorf("add default route: %w", err)
	}
	return nil
}

// inside calls do with a netlink socket in the network namespace of a process.
func (u *underlay) inside(pid int, do func(*netlink.Handle) error) error {
	ns, err := netns.GetFromPid(pid)
	if err != nil {
		return fmt.Errorf("open network namespace of process %d: %w", pid, err)
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink in namespace of process %d: %w", pid, err)
	}
	defer h.Close()
	return do(h)
}

// addAddress adds the address of a part to a link, usable at once: without
// duplicate address detection, which would take a second over IPv6. There the
// link-local address, which the kernel would make by itself, is one more: it is
// from that one that a router solicits, and not before the detection is over
// (ndisc_solicit in net/ipv6/ndisc.c).
func addAddress(h *netlink.Handle, link netlink.Link, c Config, part int) error {
	p := c.address(part)
	if p.Addr().Is6() {
		m := hardware(part)
		eui := netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: m[0] ^ 2, 9: m[1], 10: m[2], 11: 0xff, 12: 0xfe, 13: m[3], 14: m[4], 15: m[5]})
		if err := addPrefix(h, link, netip.PrefixFrom(eui, 64)); err != nil {
			return err
		}
	}
	return addPrefix(h, link, p)
}

func addPrefix(h *netlink.Handle, link netlink.Link, p netip.Prefix) error {
	address := &netlink.Addr{
		IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())},
		Flags: unix.IFA_F_NODAD,
	}
	if err := h.AddrAdd(link, address); err != nil {
		return fmt.Errorf("add address %s to %s: %w", p, link.Attrs().Name, err)
	}
	return nil
}

func loopbackUp(h netlink.Handle) error {
	lo, err := h.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if err := h.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return nil
}
