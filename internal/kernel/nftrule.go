package kernel

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/ovlnet/ovl/internal/cluster"
)

// Rules are written as nft(8) writes them, and compiled here: as much of its
// language as our guards need. A rule is a list of matches, perhaps "counter", and a
// verdict. A match is a field, or several joined by ".", each perhaps with "&" and a
// mask, then perhaps "==", "!=" or ">", then a value or the name of a set. A field of the
// link header may also be "set", to a value or to what a map has for another field: where
// it has nothing, the rule ends. As with nft(8), a match that begins with a field of the
// transport header asks for its protocol first; of the headers before that one none
// does.

// nftField is where the value of a field comes from.
type nftField struct {
	meta         uint32 // NFT_META_*, if base is noPayload
	base         int32  // NFT_PAYLOAD_*
	offset, size uint32 // bytes
	within       string // protocol whose header it is in, where a match asks for it
}

const noPayload = -1

// nftFields are the fields by name. The header of ICMPv6 and those in front of its
// addresses: RFC 4443, RFC 4861; of ARP: RFC 826.
var nftFields = map[string]nftField{
	"meta iifname":    {unix.NFT_META_IIFNAME, noPayload, 0, unix.IFNAMSIZ, ""},
	"meta l4proto":    {unix.NFT_META_L4PROTO, noPayload, 0, 1, ""},
	"meta nfproto":    {unix.NFT_META_NFPROTO, noPayload, 0, 1, ""},
	"ether daddr":     {0, unix.NFT_PAYLOAD_LL_HEADER, 0, 6, ""},
	"ether saddr":     {0, unix.NFT_PAYLOAD_LL_HEADER, 6, 6, ""},
	"ether type":      {0, unix.NFT_PAYLOAD_LL_HEADER, 12, 2, ""},
	"ip saddr":        {0, unix.NFT_PAYLOAD_NETWORK_HEADER, 12, 4, ""},
	"ip6 nexthdr":     {0, unix.NFT_PAYLOAD_NETWORK_HEADER, 6, 1, ""},
	"ip6 saddr":       {0, unix.NFT_PAYLOAD_NETWORK_HEADER, 8, 16, ""},
	"arp saddr ether": {0, unix.NFT_PAYLOAD_NETWORK_HEADER, 8, 6, ""},
	"arp saddr ip":    {0, unix.NFT_PAYLOAD_NETWORK_HEADER, 14, 4, ""},
	"arp daddr ip":    {0, unix.NFT_PAYLOAD_NETWORK_HEADER, 24, 4, ""},
	"udp dport":       {0, unix.NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, "udp"},
	"icmpv6 type":     {0, unix.NFT_PAYLOAD_TRANSPORT_HEADER, 0, 1, "icmpv6"},
	"icmpv6 taddr":    {0, unix.NFT_PAYLOAD_TRANSPORT_HEADER, 8, 16, "icmpv6"},
}

// nftWords are the values that have names.
var nftWords = map[string]string{
	"meta l4proto tcp": "06", "meta l4proto udp": "11", "meta l4proto icmpv6": "3a", "meta nfproto ipv4": "02", "meta nfproto ipv6": "0a",
	"ether type ip": "0800", "ether type arp": "0806", "ether type ip6": "86dd",
}

// nfDrop and nfAccept are verdicts of netfilter (include/uapi/linux/netfilter.h).
const (
	nfDrop   = 0
	nfAccept = 1
)

// compiler reads a rule word by word.
type compiler struct {
	words  []string
	out    *nl.RtAttr // NFTA_RULE_EXPRESSIONS
	within string     // the protocol that has been asked for last
}

// compile returns the expressions of a rule.
func compile(rule string) (*nl.RtAttr, error) {
	c := compiler{words: strings.Fields(rule), out: nl.NewRtAttr(unix.NFTA_RULE_EXPRESSIONS, nil)}
	for len(c.words) > 0 {
		if err := c.statement(); err != nil {
			return nil, refusal(fmt.Sprintf("rule %q: %v", clip(rule), err))
		}
	}
	return c.out, nil
}

// next takes the next word; "" at the end.
func (c *compiler) next() string {
	if len(c.words) == 0 {
		return ""
	}
	w := c.words[0]
	c.words = c.words[1:]
	return w
}

// accept takes the next word if it is w.
func (c *compiler) accept(w string) bool {
	if len(c.words) == 0 || c.words[0] != w {
		return false
	}
	c.words = c.words[1:]
	return true
}

func (c *compiler) statement() error {
	switch {
	case c.accept("counter"):
		c.expression("counter")
	case c.accept("accept"):
		c.verdict(nfAccept, "")
	case c.accept("drop"):
		c.verdict(nfDrop, "")
	case c.accept("goto"):
		c.verdict(unix.NFT_GOTO, c.next())
	default:
		return c.match()
	}
	return nil
}

// expression appends an expression of that name and returns its attributes.
func (c *compiler) expression(name string) *nl.RtAttr {
	e := c.out.AddRtAttr(unix.NFTA_LIST_ELEM, nil)
	e.AddRtAttr(unix.NFTA_EXPR_NAME, nl.ZeroTerminated(name))
	return e.AddRtAttr(unix.NFTA_EXPR_DATA, nil)
}

func (c *compiler) verdict(code int32, chain string) {
	e := c.expression("immediate")
	e.AddRtAttr(unix.NFTA_IMMEDIATE_DREG, be32(unix.NFT_REG_VERDICT))
	v := e.AddRtAttr(unix.NFTA_IMMEDIATE_DATA, nil).AddRtAttr(unix.NFTA_DATA_VERDICT, nil)
	v.AddRtAttr(unix.NFTA_VERDICT_CODE, be32(uint32(code)))
	if chain != "" {
		v.AddRtAttr(unix.NFTA_VERDICT_CHAIN, nl.ZeroTerminated(chain))
	}
}

// match loads fields into registers one behind the other and compares them. What
// a packet is too short for does not match, whatever follows.
func (c *compiler) match() error {
	name, f, err := c.field()
	if err != nil {
		return err
	}
	if c.accept("set") {
		return c.set(name, f)
	}
	if err := c.protocol(f); err != nil {
		return err
	}
	register := uint32(unix.NFT_REG32_00)
	if err := c.load(f, register); err != nil {
		return err
	}
	for c.accept(".") {
		register += padded(int(f.size)) / 4
		if name, f, err = c.field(); err != nil {
			return err
		}
		if err := c.load(f, register); err != nil {
			return err
		}
	}
	op := c.operator()
	value := c.next()
	if set, ok := strings.CutPrefix(value, "@"); ok && op != unix.NFT_CMP_GT {
		c.lookup(set, op == unix.NFT_CMP_NEQ)
		return nil
	}
	if register != unix.NFT_REG32_00 {
		return fmt.Errorf("%q is no set", value)
	}
	want, err := constant(name, value, f.size)
	if err != nil {
		return err
	}
	e := c.expression("cmp")
	e.AddRtAttr(unix.NFTA_CMP_SREG, be32(unix.NFT_REG32_00))
	e.AddRtAttr(unix.NFTA_CMP_OP, be32(op))
	e.AddRtAttr(unix.NFTA_CMP_DATA, nil).AddRtAttr(unix.NFTA_DATA_VALUE, want)
	return nil
}

// protocol asks for the protocol of whose header a field is.
func (c *compiler) protocol(f nftField) error {
	if f.within == "" || f.within == c.within {
		return nil
	}
	rest := c.words
	c.within = f.within
	c.words = []string{"meta", "l4proto", f.within}
	err := c.match()
	c.words = rest
	return err
}

// set writes a field of the link header, which no checksum covers: a value, or what
// a map has for another field.
func (c *compiler) set(name string, f nftField) error {
	if f.base != unix.NFT_PAYLOAD_LL_HEADER {
		return fmt.Errorf("%q cannot be set", name)
	}
	if len(c.words) == 0 {
		return fmt.Errorf("%s is set to nothing", name)
	}
	if value, err := constant(name, c.words[0], f.size); err == nil {
		c.next()
		c.immediate(value)
	} else if err := c.mapped(); err != nil {
		return err
	}
	e := c.expression("payload")
	e.AddRtAttr(unix.NFTA_PAYLOAD_SREG, be32(unix.NFT_REG32_00))
	e.AddRtAttr(unix.NFTA_PAYLOAD_BASE, be32(uint32(f.base)))
	e.AddRtAttr(unix.NFTA_PAYLOAD_OFFSET, be32(f.offset))
	e.AddRtAttr(unix.NFTA_PAYLOAD_LEN, be32(f.size))
	return nil
}

// immediate loads a value into the first register.
func (c *compiler) immediate(value []byte) {
	e := c.expression("immediate")
	e.AddRtAttr(unix.NFTA_IMMEDIATE_DREG, be32(unix.NFT_REG32_00))
	e.AddRtAttr(unix.NFTA_IMMEDIATE_DATA, nil).AddRtAttr(unix.NFTA_DATA_VALUE, value)
}

// mapped loads what a map has for a field into the first register.
func (c *compiler) mapped() error {
	_, f, err := c.field()
	if err != nil {
		return err
	}
	if err := c.protocol(f); err != nil {
		return err
	}
	if err := c.load(f, unix.NFT_REG32_00); err != nil {
		return err
	}
	if !c.accept("map") {
		return fmt.Errorf("%q stands where a map should", c.next())
	}
	name, ok := strings.CutPrefix(c.next(), "@")
	if !ok {
		return errors.New("a map has no name")
	}
	e := c.expression("lookup")
	e.AddRtAttr(unix.NFTA_LOOKUP_SET, nl.ZeroTerminated(name))
	e.AddRtAttr(unix.NFTA_LOOKUP_SREG, be32(unix.NFT_REG32_00))
	e.AddRtAttr(unix.NFTA_LOOKUP_DREG, be32(unix.NFT_REG32_00))
	return nil
}

// operator takes what stands between a field and its value. Greater is what is so
// byte by byte, as numbers are in network order.
func (c *compiler) operator() uint32 {
	switch {
	case c.accept("=="):
		return unix.NFT_CMP_EQ
	case c.accept("!="):
		return unix.NFT_CMP_NEQ
	case c.accept(">"):
		return unix.NFT_CMP_GT
	}
	return unix.NFT_CMP_EQ
}

func (c *compiler) lookup(set string, differs bool) {
	e := c.expression("lookup")
	e.AddRtAttr(unix.NFTA_LOOKUP_SET, nl.ZeroTerminated(set))
	e.AddRtAttr(unix.NFTA_LOOKUP_SREG, be32(unix.NFT_REG32_00))
	if differs {
		e.AddRtAttr(unix.NFTA_LOOKUP_FLAGS, be32(unix.NFT_LOOKUP_F_INV))
	}
}

// field takes the name of a field, of one to three words.
func (c *compiler) field() (string, nftField, error) {
	if len(c.words) > 0 && strings.HasPrefix(c.words[0], "@") {
		f, err := rawField(c.words[0])
		return c.next(), f, err
	}
	for n := min(3, len(c.words)); n > 0; n-- {
		name := strings.Join(c.words[:n], " ")
		if f, ok := nftFields[name]; ok {
			c.words = c.words[n:]
			return name, f, nil
		}
	}
	return "", nftField{}, fmt.Errorf("%q is no field", strings.Join(c.words[:min(2, len(c.words))], " "))
}

// rawField is a field by its place: @nh,0,48 is the first 48 bits of the network
// header, @th,… of the transport header.
func rawField(word string) (nftField, error) {
	parts := strings.Split(word, ",")
	bases := map[string]int32{"@nh": unix.NFT_PAYLOAD_NETWORK_HEADER, "@th": unix.NFT_PAYLOAD_TRANSPORT_HEADER}
	base, ok := bases[parts[0]]
	if ok && len(parts) == 3 {
		offset, errOffset := strconv.ParseUint(parts[1], 10, 11)
		size, errSize := strconv.ParseUint(parts[2], 10, 8)
		if errOffset == nil && errSize == nil && size > 0 && offset%8 == 0 && size%8 == 0 && size <= 128 {
			return nftField{base: base, offset: uint32(offset / 8), size: uint32(size / 8)}, nil
		}
	}
	return nftField{}, fmt.Errorf("%q is no field", word)
}

// maxRegister is the first register behind all that there are: NFT_REG32_15, and one.
const maxRegister = unix.NFT_REG32_15 + 1

// load loads a field into a register and those behind it, and takes its mask.
func (c *compiler) load(f nftField, register uint32) error {
	if register+padded(int(f.size))/4 > maxRegister {
		return errors.New("so many fields fit into no registers")
	}
	if f.base == noPayload {
		e := c.expression("meta")
		e.AddRtAttr(unix.NFTA_META_KEY, be32(f.meta))
		e.AddRtAttr(unix.NFTA_META_DREG, be32(register))
		return nil
	}
	e := c.expression("payload")
	e.AddRtAttr(unix.NFTA_PAYLOAD_DREG, be32(register))
	e.AddRtAttr(unix.NFTA_PAYLOAD_BASE, be32(uint32(f.base)))
	e.AddRtAttr(unix.NFTA_PAYLOAD_OFFSET, be32(f.offset))
	e.AddRtAttr(unix.NFTA_PAYLOAD_LEN, be32(f.size))
	if !c.accept("&") {
		return nil
	}
	mask, err := constant("a mask", c.next(), f.size)
	if err != nil {
		return err
	}
	e = c.expression("bitwise")
	e.AddRtAttr(unix.NFTA_BITWISE_SREG, be32(register))
	e.AddRtAttr(unix.NFTA_BITWISE_DREG, be32(register))
	e.AddRtAttr(unix.NFTA_BITWISE_LEN, be32(f.size))
	e.AddRtAttr(unix.NFTA_BITWISE_MASK, nil).AddRtAttr(unix.NFTA_DATA_VALUE, mask)
	e.AddRtAttr(unix.NFTA_BITWISE_XOR, nil).AddRtAttr(unix.NFTA_DATA_VALUE, make([]byte, f.size))
	return nil
}

// constant returns the bytes of a value. The name of a link may end in a star:
// then only what stands before it is compared.
func constant(field, value string, size uint32) ([]byte, error) {
	if word, ok := nftWords[field+" "+value]; ok {
		return hex.DecodeString(word)
	}
	if field == "meta iifname" {
		name := strings.Trim(value, `"`)
		if prefix, ok := strings.CutSuffix(name, "*"); ok && prefix != "" && len(prefix) < unix.IFNAMSIZ {
			return []byte(prefix), nil
		}
		return nil, fmt.Errorf("%s is no beginning of a link's name", value)
	}
	if digits, ok := strings.CutPrefix(value, "0x"); ok {
		if b, err := hex.DecodeString(digits); err == nil && len(b) == int(size) {
			return b, nil
		}
	}
	if m, err := cluster.ParseMAC(value); err == nil && int(size) == len(m) {
		return m[:], nil
	}
	if a, err := netip.ParseAddr(value); err == nil && a.BitLen() == int(size)*8 {
		return a.AsSlice(), nil
	}
	if n, err := strconv.ParseUint(value, 10, int(size)*8); err == nil && size <= 2 {
		b := nl.BEUint32Attr(uint32(n))
		return b[4-size:], nil
	}
	return nil, fmt.Errorf("%q is no value of %s", value, field)
}
