package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

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
		if !cut {
			if err := k.underlay.carrier(h); err != nil {
				return err
			}
		}
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

// The kernel tells the two ends of a veth of their carrier in its own time:
// linkwatch (net/core/link_watch.c) looks once a second.
const (
	carrierLimit = 5 * time.Second
	carrierPoll  = 5 * time.Millisecond
)

// carrier waits until a host that was plugged in again can send.
func (u *underlay) carrier(host *keptHost) error {
	return u.inside(host.PID, func(h *netlink.Handle) error {
		tick := time.NewTicker(carrierPoll)
		defer tick.Stop()
		limit := time.After(carrierLimit)
		for {
			link, err := h.LinkByName(hostLink)
			if err != nil {
				return fmt.Errorf("find %s: %w", hostLink, err)
			}
			own, err := netlink.LinkByName(port(host.Name))
			if err != nil {
				return fmt.Errorf("find port %s: %w", port(host.Name), err)
			}
			if link.Attrs().OperState == netlink.OperUp && own.Attrs().OperState == netlink.OperUp {
				return nil
			}
			select {
			case <-tick.C:
			case <-limit:
				return fmt.Errorf("plug in %s: no carrier after %s", host.Name, carrierLimit)
			}
		}
	})
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
