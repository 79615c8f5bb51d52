package lab

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// setCut cuts a host from the underlay or from etcd, or mends that. Mending
// the underlay mends both: it is what people mean.
func (k *keeper) setCut(h *keptHost, cut, fromEtcd bool) error {
	if fromEtcd && h.Name == Control {
		return errors.New("cut it from etcd: etcd runs there; stop it instead")
	}
	if !fromEtcd {
		if err := k.underlay.unplugged(h.Name, cut); err != nil {
			return err
		}
		h.cut = cut
	}
	if fromEtcd || (!cut && h.apart) {
		if err := k.underlay.apart(h, k.hosts[Control], cut); err != nil {
			return err
		}
		h.apart = cut
	}
	return nil
}

// unplugged pulls the cable of a host, or plugs it in: the other end of the
// veth goes down, so the host's own link is up without a carrier.
func (u *underlay) unplugged(host string, cut bool) error {
	link, err := netlink.LinkByName(port(host))
	if err != nil {
		return fmt.Errorf("find port %s: %w", port(host), err)
	}
	set := netlink.LinkSetUp
	if cut {
		set = netlink.LinkSetDown
	}
	if err := set(link); err != nil {
		return fmt.Errorf("set port %s: %w", port(host), err)
	}
	return nil
}

// apart keeps two hosts from each other's packets, and only these: each gets a
// permanent neighbour entry that sends what is for the other to the switch
// itself, which drops it. That needs no packet filter (not every kernel has
// one for bridges) and no rule on a host where the agent's rules are.
func (u *underlay) apart(a, b *keptHost, cut bool) error {
	return errors.Join(u.divert(a, b, cut), u.divert(b, a, cut))
}

func (u *underlay) divert(from, to *keptHost, divert bool) error {
	return u.inside(from.PID, func(h *netlink.Handle) error {
		link, err := h.LinkByName(hostLink)
		if err != nil {
			return fmt.Errorf("find %s: %w", hostLink, err)
		}
		to, err := netip.ParseAddr(to.Address)
		if err != nil {
			return fmt.Errorf("divert packets: %w", err)
		}
		n := &netlink.Neigh{
			LinkIndex:    link.Attrs().Index,
			State:        netlink.NUD_PERMANENT,
			IP:           to.AsSlice(),
			HardwareAddr: u.bridge.HardwareAddr,
		}
		if divert {
			err = h.NeighSet(n)
		} else if err = h.NeighDel(n); errors.Is(err, unix.ENOENT) {
			err = nil
		}
		if err != nil {
			return fmt.Errorf("set neighbour %s on %s: %w", to, from.Name, err)
		}
		return nil
	})
}
