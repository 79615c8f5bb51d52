package kernel

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// dnat is a rule of a published port, such as
// "-d 192.0.2.1/32 -p udp -m udp --dport 53 -j DNAT --to-destination 10.64.1.2:53".
type dnat struct {
	at    netip.Addr // of the host; not valid: all of them
	proto string     // tcp or udp
	port  uint16
	to    netip.AddrPort
}

// parseDNAT reads a rule that is exactly of that form.
func parseDNAT(rule string) (d dnat, ok bool) {
	words := strings.Fields(rule)
	if len(words) == 12 && words[0] == "-d" {
		at, err := netip.ParsePrefix(words[1])
		if err != nil {
			return d, false
		}
		d.at, words = at.Addr(), words[2:]
	}
	if len(words) != 10 {
		return d, false
	}
	d.proto = words[1]
	port, err := strconv.ParseUint(words[5], 10, 16)
	if err != nil {
		return d, false
	}
	d.port = uint16(port)
	if d.to, err = netip.ParseAddrPort(words[9]); err != nil {
		return d, false
	}
	ok = (d.proto == "tcp" || d.proto == "udp") && d.to.Addr().Zone() == "" && !d.to.Addr().Is4In6() &&
		(!d.at.IsValid() || d.at.BitLen() == d.to.Addr().BitLen()) && d.String() == rule
	return d, ok
}

func (d dnat) String() string {
	at := ""
	if d.at.IsValid() {
		at = fmt.Sprintf("-d %s/%d ", d.at, d.at.BitLen())
	}
	return fmt.Sprintf("%s-p %s -m %[2]s --dport %d -j DNAT --to-destination %s", at, d.proto, d.port, d.to)
}

// expressions returns the rule as nf_tables has it, NFTA_RULE_EXPRESSIONS: the
// protocol and the address as iptables compares them, then its extensions tcp or udp,
// comment and DNAT (nft_rule_new in iptables' iptables/nft.c). It has a form of its own
// for ports since 1.8.8, which those before cannot read.
func (d dnat) expressions(comment string) *nl.RtAttr {
	c := compiler{out: nl.NewRtAttr(unix.NFTA_RULE_EXPRESSIONS, nil)}
	e := c.expression("meta")
	e.AddRtAttr(unix.NFTA_META_KEY, be32(unix.NFT_META_L4PROTO))
	e.AddRtAttr(unix.NFTA_META_DREG, be32(unix.NFT_REG_1))
	c.equals([]byte{d.number()})
	if d.at.IsValid() {
		offset := uint32(16) // of the destination in the header of IPv4
		if d.at.Is6() {
			offset = 24
		}
		e := c.expression("payload")
		e.AddRtAttr(unix.NFTA_PAYLOAD_DREG, be32(unix.NFT_REG_1))
		e.AddRtAttr(unix.NFTA_PAYLOAD_BASE, be32(unix.NFT_PAYLOAD_NETWORK_HEADER))
		e.AddRtAttr(unix.NFTA_PAYLOAD_OFFSET, be32(offset))
		e.AddRtAttr(unix.NFTA_PAYLOAD_LEN, be32(uint32(d.at.BitLen()/8)))
		c.equals(d.at.AsSlice())
	}
	c.extension("match", d.proto, 0, d.ports())
	c.extension("match", "comment", 0, append([]byte(comment), make([]byte, xtComment-len(comment))...))
	c.expression("counter")
	c.extension("target", "DNAT", 2, d.destination())
	return c.out
}

// equals compares what was loaded into the first register.
func (c *compiler) equals(want []byte) {
	e := c.expression("cmp")
	e.AddRtAttr(unix.NFTA_CMP_SREG, be32(unix.NFT_REG_1))
	e.AddRtAttr(unix.NFTA_CMP_OP, be32(unix.NFT_CMP_EQ))
	e.AddRtAttr(unix.NFTA_CMP_DATA, nil).AddRtAttr(unix.NFTA_DATA_VALUE, want)
}

// extension appends an extension of iptables, a match or a target, with the struct in
// which it has its parameters (net/netfilter/nft_compat.c).
func (c *compiler) extension(kind, name string, revision uint32, parameters []byte) {
	e := c.expression(kind)
	e.AddRtAttr(unix.NFTA_TARGET_NAME, nl.ZeroTerminated(name)) // the numbers of a match's attributes are the same
	e.AddRtAttr(unix.NFTA_TARGET_REV, be32(revision))
	e.AddRtAttr(unix.NFTA_TARGET_INFO, parameters)
}

// xtAlign is what the structs of extensions are padded to (XT_ALIGN), xtComment the
// size of struct xt_comment_info.
const (
	xtAlign   = 8
	xtComment = 256
)

// ports is a struct xt_tcp or xt_udp of include/uapi/linux/netfilter/xt_tcpudp.h: from
// any port to the one. What follows in them is for flags that nobody asks about.
func (d dnat) ports() []byte {
	b := native.AppendUint16(native.AppendUint16(nil, 0), 0xffff)
	b = native.AppendUint16(native.AppendUint16(b, d.port), d.port)
	return append(b, make([]byte, xtAlign)...)
}

// natMapIPs and natMapPorts are NF_NAT_RANGE_MAP_IPS and _PROTO_SPECIFIED.
const (
	natMapIPs   = 1
	natMapPorts = 2
)

// destination is a struct nf_nat_range2 of include/uapi/linux/netfilter/nf_nat.h, which
// the kernel has since 4.18: from and to one address and one port.
func (d dnat) destination() []byte {
	b := native.AppendUint32(nil, natMapIPs|natMapPorts)
	for range 2 {
		addr := make([]byte, 16) // union nf_inet_addr
		copy(addr, d.to.Addr().AsSlice())
		b = append(b, addr...)
	}
	for range 2 {
		b = binary.BigEndian.AppendUint16(b, d.to.Port())
	}
	return append(b, make([]byte, 2+6)...) // base port, and to XT_ALIGN
}

// compat tells nft_compat which protocol the rule is for, as its extensions demand.
func (d dnat) compat() *nl.RtAttr {
	a := nl.NewRtAttr(unix.NFTA_RULE_COMPAT, nil)
	a.AddRtAttr(unix.NFTA_RULE_COMPAT_PROTO, be32(uint32(d.number())))
	a.AddRtAttr(unix.NFTA_RULE_COMPAT_FLAGS, be32(0))
	return a
}

func (d dnat) number() uint8 {
	return map[string]uint8{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP}[d.proto]
}
