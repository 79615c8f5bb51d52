package integration

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// tunnelPort is the UDP port of VXLAN (RFC 7348 section 5).
const tunnelPort = 4789

// vtep is one end of the tunnel of a network.
type vtep struct {
	host string
	vni  uint32
}

// wire is what may be on the wire between the hosts, and on their ends of the
// tunnel.
type wire struct {
	hosts map[netip.Addr]string // addresses of eth0 of everybody, link-local ones too
	macs  map[string]string     // MACs of eth0 of everybody
	vteps map[vtep]string       // MAC by end
	pools []netip.Prefix        // of the networks
	near  []netip.Prefix        // the subnets that the hosts have of the networks
}

// leak returns what is wrong with a frame, and "" if nothing is.
func (w *wire) leak(f frame) string {
	all := f.packet.Layers()
	if f.link != "eth0" {
		if w.ownReport(f.host, vniOf(f.link), all) {
			return ""
		}
		return w.leakWithin(all, f.host, "", vniOf(f.link))
	}
	if why := w.leakOutside(all); why != "" {
		return why
	}
	i := slices.IndexFunc(all, func(l gopacket.Layer) bool { return l.LayerType() == layers.LayerTypeVXLAN })
	if i < 0 && slices.ContainsFunc(all, isTunnel) {
		return "no VXLAN on the tunnel's port"
	}
	if i < 0 {
		return ""
	}
	ip, ok := parseIP(all)
	if !ok {
		return "VXLAN in no IP packet"
	}
	return w.leakWithin(all[i+1:], w.hosts[ip.src], w.hosts[ip.dst], all[i].(*layers.VXLAN).VNI)
}

// ownReport reports whether a frame is what the kernel of a host says on any
// link with IPv6: to which groups it listens. It goes to the device and no
// further, since no entry leads there; on the underlay it would be a leak.
func (w *wire) ownReport(host string, vni uint32, all []gopacket.Layer) bool {
	eth, ok := all[0].(*layers.Ethernet)
	ip, isIP := parseIP(all)
	return ok && isIP && eth.SrcMAC.String() == w.vteps[vtep{host, vni}] && ip.dst == netip.MustParseAddr("ff02::16") && !w.pooled(ip.src)
}

// leakOutside judges what is on the underlay itself: frames of the hosts, from
// address to address of theirs, and no address of a network.
func (w *wire) leakOutside(all []gopacket.Layer) string {
	eth, ok := all[0].(*layers.Ethernet)
	if !ok {
		return "no Ethernet"
	}
	if w.macs[eth.SrcMAC.String()] == "" {
		return "from a MAC that is no host's"
	}
	if len(all) > 1 {
		if arp, ok := all[1].(*layers.ARP); ok {
			for _, raw := range [][]byte{arp.SourceProtAddress, arp.DstProtAddress} {
				if a, _ := netip.AddrFromSlice(raw); w.hosts[a] == "" {
					return fmt.Sprintf("ARP that speaks of %s, no host", a)
				}
			}
			return ""
		}
	}
	ip, ok := parseIP(all)
	switch {
	case !ok:
		return "neither IP nor ARP"
	case w.hosts[ip.src] == "" && !ip.src.IsUnspecified():
		return fmt.Sprintf("from %s, which is no host's", ip.src)
	case !ip.dst.IsMulticast() && w.hosts[ip.dst] == "":
		return fmt.Sprintf("to %s, which is no host's", ip.dst)
	case ip.dst.IsMulticast() && ip.dst.Is4():
		return "IPv4 multicast"
	case ip.dst.IsMulticast() && !slices.ContainsFunc(all, isDiscovery):
		return "IPv6 multicast that is not the host's own neighbour discovery"
	}
	return ""
}

func isTunnel(l gopacket.Layer) bool {
	udp, ok := l.(*layers.UDP)
	return ok && udp.DstPort == tunnelPort
}

// isDiscovery reports whether a layer is what the kernel of a host itself says
// to all on its link: neighbour discovery (RFC 4861) or multicast listener
// discovery (RFC 3810, RFC 2710).
func isDiscovery(l gopacket.Layer) bool {
	icmp, ok := l.(*layers.ICMPv6)
	if !ok {
		return false
	}
	switch t := icmp.TypeCode.Type(); t {
	case layers.ICMPv6TypeRouterSolicitation, layers.ICMPv6TypeNeighborSolicitation, layers.ICMPv6TypeNeighborAdvertisement,
		layers.ICMPv6TypeMLDv2MulticastListenerReportMessageV2, layers.ICMPv6TypeMLDv1MulticastListenerReportMessage,
		layers.ICMPv6TypeMLDv1MulticastListenerDoneMessage, layers.ICMPv6TypeMLDv1MulticastListenerQueryMessage,
		layers.ICMPv6TypeRouterAdvertisement, layers.ICMPv6TypeRedirect:
		return true
	default:
		return false
	}
}

// leakWithin judges a frame of the tunnel: from end to end, with nothing in it
// but IP packets from one container or gateway to another.
func (w *wire) leakWithin(all []gopacket.Layer, from, to string, vni uint32) string {
	if len(all) == 0 {
		return "an empty frame in VXLAN"
	}
	eth, ok := all[0].(*layers.Ethernet)
	if !ok {
		return "no Ethernet in VXLAN"
	}
	if to == "" { // on the device, where the peer is not known yet
		to = w.hostOf(eth.DstMAC, vni)
	}
	if w.vteps[vtep{from, vni}] != eth.SrcMAC.String() || w.vteps[vtep{to, vni}] != eth.DstMAC.String() {
		return fmt.Sprintf("from %s to %s, which are not the ends of VNI %d on %q and %q", eth.SrcMAC, eth.DstMAC, vni, from, to)
	}
	ip, ok := parseIP(all)
	switch {
	case !ok:
		return "no IP in VXLAN"
	case ip.hops == 255 && slices.ContainsFunc(all, isDiscovery):
		// With fewer hops it was routed, and nobody listens to it: RFC 4861 section 7.1.
		return "neighbour discovery in VXLAN"
	case ip.dst.IsMulticast() || ip.dst == netip.AddrFrom4([4]byte{255, 255, 255, 255}) || !w.pooled(ip.dst):
		return fmt.Sprintf("to %s in VXLAN", ip.dst)
	case !w.pooled(ip.src):
		return fmt.Sprintf("from %s in VXLAN", ip.src)
	}
	return ""
}

// hostOf returns the host whose end of a network's tunnel has that MAC.
func (w *wire) hostOf(mac net.HardwareAddr, vni uint32) string {
	for end, m := range w.vteps {
		if end.vni == vni && m == mac.String() {
			return end.host
		}
	}
	return ""
}

func (w *wire) pooled(a netip.Addr) bool {
	return slices.ContainsFunc(w.pools, func(p netip.Prefix) bool { return p.Contains(a) })
}

// endpoints are the addresses of an IP packet.
type endpoints struct {
	src, dst netip.Addr
	hops     uint8 // that are left
}

// parseIP returns the addresses of the first IP packet.
func parseIP(all []gopacket.Layer) (endpoints, bool) {
	for _, l := range all {
		var src, dst net.IP
		var hops uint8
		switch ip := l.(type) {
		case *layers.IPv4:
			src, dst, hops = ip.SrcIP, ip.DstIP, ip.TTL
		case *layers.IPv6:
			src, dst, hops = ip.SrcIP, ip.DstIP, ip.HopLimit
		default:
			continue
		}
		s, _ := netip.AddrFromSlice(src)
		d, _ := netip.AddrFromSlice(dst)
		return endpoints{s.Unmap(), d.Unmap(), hops}, true
	}
	return endpoints{}, false
}

func vniOf(link string) (vni uint32) {
	_, _ = fmt.Sscanf(strings.TrimPrefix(link, "ovx"), "%d", &vni) // 0 is no network's
	return vni
}

// broadcastOf returns the broadcast address of an IPv4 subnet (RFC 919); it is
// not valid of IPv6, which has none.
func broadcastOf(p netip.Prefix) netip.Addr {
	if !p.Addr().Is4() {
		return netip.Addr{}
	}
	a := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		a[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(a)
}
