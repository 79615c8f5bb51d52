package kernel

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/reconcile"
)

// setNamed returns the set that has a name; ok is false if none of ours can have it.
func setNamed(name string) (k dataplane.SetKey, ok bool) {
	families := map[string]dataplane.Family{dataplane.IPv4.String(): dataplane.IPv4, dataplane.IPv6.String(): dataplane.IPv6}
	switch words := strings.Split(name, "_"); {
	case len(words) == 1:
		k.Kind = dataplane.Networks
	case len(words) == 2 && words[0] == "owners":
		k.Kind, k.Family = dataplane.Owners, families[words[1]]
	case len(words) == 2:
		k.Kind, k.Family = dataplane.Sources, families[words[1]]
	case len(words) == 5: // peers_ipv4_24_over_ipv6
		bits, err := strconv.ParseUint(words[2], 10, 8)
		k = dataplane.SetKey{Kind: dataplane.Peers, Family: families[words[4]], Inner: families[words[1]], Bits: uint8(bits)}
		if err != nil || k.Inner == 0 || uint32(bits) > 8*addrLen(k.Inner) {
			return k, false
		}
	}
	return k, k.Name() == name && (k.Family != 0 || k.Kind == dataplane.Networks)
}

// The numbers by which nft(8) knows the types of what a set holds (enum datatypes
// in nftables' include/datatype.h), six bits each where there are several. The kernel
// only keeps them.
const (
	nftInteger   = 4
	nftIPv4      = 7
	nftIPv6      = 8
	nftEtherAddr = 9
	nftIfname    = 41
)

// A VNI on the wire: its length, and where it begins behind the start of the UDP
// header (RFC 7348 section 5).
const (
	vniLen    = 3
	vniOffset = 8 + 4
)

// The source address of the packet in a frame in the tunnel: behind the headers of
// UDP, VXLAN and Ethernet.
const (
	innerSource4 = 8 + 8 + 14 + 12
	innerSource6 = 8 + 8 + 14 + 8
)

// keyType returns the type of a set's elements and their length in bytes. Each
// part of an element that has several is padded to a whole register.
func keyType(k dataplane.SetKey) (typ, size uint32) {
	typ, size = nftIPv4, addrLen(k.Family)
	if k.Family == dataplane.IPv6 {
		typ = nftIPv6
	}
	switch k.Kind {
	case dataplane.Networks:
		return nftInteger, vniLen
	case dataplane.Owners:
		return typ, size
	case dataplane.Sources:
		return nftIfname<<12 | nftEtherAddr<<6 | typ, unix.IFNAMSIZ + padded(len(cluster.MAC{})) + size
	default:
		return typ<<12 | nftInteger<<6 | nftInteger, size + padded(vniLen) + addrLen(k.Inner)
	}
}

// setFlags returns what is said of a set itself: that it is a map, or nothing.
func setFlags(k dataplane.SetKey) uint32 {
	if k.IsMap() {
		return unix.NFT_SET_MAP
	}
	return 0
}

// dataType returns the type and length of the values in a map.
func dataType(k dataplane.SetKey) (typ, size uint32) {
	if k.IsMap() {
		return nftEtherAddr, uint32(len(cluster.MAC{}))
	}
	return 0, 0
}

// addrLen returns the length of a family's addresses in bytes.
func addrLen(f dataplane.Family) uint32 {
	if f == dataplane.IPv6 {
		return 16
	}
	return 4
}

// padded rounds a length up to whole registers.
func padded(n int) uint32 { return uint32(n+3) &^ 3 }

// foundSet is a set in one of our tables; ours only if it is as we make it.
type foundSet struct {
	name string
	key  dataplane.SetKey
	ours bool
}

// sets lists the sets in a table; none if the table is not there.
func (n *nft) sets(in dataplane.NFTable) (found []foundSet, err error) {
	err = n.list(unix.NFT_MSG_GETSET, in, func(list []syscall.NetlinkRouteAttr) {
		s := foundSet{name: textOf(list, unix.NFTA_SET_NAME)}
		if k, ok := setNamed(s.name); ok && k.In() == in {
			is := func(typ uint16, value uint32) bool { return fromBE32(valueOf(list, typ)) == value }
			typ, size := keyType(k)
			data, length := dataType(k)
			s.key, s.ours = k, is(unix.NFTA_SET_KEY_TYPE, typ) && is(unix.NFTA_SET_KEY_LEN, size) && is(unix.NFTA_SET_FLAGS, setFlags(k)) &&
				is(unix.NFTA_SET_DATA_TYPE, data) && is(unix.NFTA_SET_DATA_LEN, length)
		}
		found = append(found, s)
	})
	return found, err
}

func (n *nft) applySet(verb dataplane.Verb, r dataplane.Set) error {
	in := r.In()
	found, err := n.sets(in)
	if err != nil {
		return err
	}
	if verb == dataplane.Delete {
		return n.deleteSet(r, found)
	}
	var messages []*nl.NetlinkRequest
	for _, s := range found {
		switch {
		case s.name == r.Name() && s.ours:
			return nil
		case s.name == r.Name():
			// Somebody has made it otherwise. All that is in the table is ours, so
			// that all of it can be made anew.
			messages = append(messages, nftMessage(unix.NFT_MSG_DELTABLE, 0, in))
		}
	}
	return n.transact(append(messages, makes(unix.NFT_MSG_NEWTABLE, in), newSet(r.SetKey, 1))...)
}

// newSet makes a set; id tells it from others of the same transaction.
func newSet(k dataplane.SetKey, id uint32) *nl.NetlinkRequest {
	typ, size := keyType(k)
	m := makes(unix.NFT_MSG_NEWSET, k.In())
	add(m, unix.NFTA_SET_NAME, nl.ZeroTerminated(k.Name()))
	add(m, unix.NFTA_SET_FLAGS, be32(setFlags(k)))
	add(m, unix.NFTA_SET_KEY_TYPE, be32(typ))
	add(m, unix.NFTA_SET_KEY_LEN, be32(size))
	if k.IsMap() {
		data, length := dataType(k)
		add(m, unix.NFTA_SET_DATA_TYPE, be32(data))
		add(m, unix.NFTA_SET_DATA_LEN, be32(length))
	}
	add(m, unix.NFTA_SET_ID, be32(id))
	add(m, unix.NFTA_SET_USERDATA, setData(k))
	return m
}

// setData returns what nft(8) wants to be told of a set by its writer, or it could
// not list one that it can load again, and somebody keeps his whole firewall that
// way: the elements' order of bytes (of the network, or none for several) and, of a
// type that is only a number, where in a packet such a number stands: @th,96,24 (enum
// nftnl_udata_set_types in libnftnl's udata.h, expr_payload_build_udata in nftables'
// src/payload.c, concat_expr_build_udata in src/expression.c).
func setData(k dataplane.SetKey) []byte {
	const (
		keyByteorder, bigEndian  = 0, 2
		dataByteorder            = 1
		keyTypeof                = 3
		payload, concat          = 7, 13 // enum expr_types
		descIP, descIP6          = 12, 13
		ipSource, ip6Source      = 11, 8 // IPHDR_SADDR, IP6HDR_SADDR
		protocolDesc, headerType = 0, 1
	)
	// typeof is an expression; several are joined.
	typeof := func(data ...[]byte) []byte {
		if len(data) == 1 {
			return udata(keyTypeof, slices.Concat(number(0, payload), udata(1, data[0])))
		}
		var joined []byte
		for i, d := range data {
			joined = append(joined, udata(byte(i), slices.Concat(number(0, payload), udata(1, d)))...)
		}
		return udata(keyTypeof, slices.Concat(number(0, concat), udata(1, joined)))
	}
	switch k.Kind {
	case dataplane.Networks:
		return append(number(keyByteorder, bigEndian), typeof(rawData(vniOffset, vniLen))...)
	case dataplane.Peers:
		host, from := slices.Concat(number(protocolDesc, descIP), number(headerType, ipSource)), rawData(innerSource4, addrLen(k.Inner))
		if k.Family == dataplane.IPv6 {
			host = slices.Concat(number(protocolDesc, descIP6), number(headerType, ip6Source))
		}
		if k.Inner == dataplane.IPv6 {
			from = rawData(innerSource6, addrLen(k.Inner))
		}
		return append(number(keyByteorder, 0), typeof(host, rawData(vniOffset, vniLen), from)...)
	case dataplane.Owners:
		return append(number(keyByteorder, bigEndian), number(dataByteorder, bigEndian)...)
	default:
		return number(keyByteorder, bigEndian)
	}
}

// rawData tells of a place behind the beginning of the transport header.
func rawData(offset, size uint32) []byte {
	return slices.Concat(number(0, 0), number(1, 0), number(2, unix.NFT_PAYLOAD_TRANSPORT_HEADER+1), number(3, offset*8), number(4, size*8))
}

// number is a piece of 32 bits.
func number(typ byte, v uint32) []byte { return udata(typ, nl.Uint32Attr(v)) }

// udata is a piece of what nf_tables keeps for the writers of rules and sets: a
// type and a length of one byte each, and the value.
func udata(typ byte, value []byte) []byte { return append([]byte{typ, byte(len(value))}, value...) }

// deleteSet deletes a set, and with the last thing in it the table.
func (n *nft) deleteSet(r dataplane.Set, found []foundSet) error {
	there := false
	for _, s := range found {
		there = there || s.name == r.Name()
	}
	if !there {
		return nil
	}
	chains, err := n.chains(r.In())
	if err != nil {
		return err
	}
	if len(found) == 1 && len(chains) == 0 {
		return n.deleteTable(r.In())
	}
	m := nftMessage(unix.NFT_MSG_DELSET, 0, r.In())
	add(m, unix.NFTA_SET_NAME, nl.ZeroTerminated(r.Name()))
	return unlessGone(dataplane.Delete, n.transact(m))
}

func (n *nft) deleteTable(in dataplane.NFTable) error {
	return unlessGone(dataplane.Delete, n.transact(nftMessage(unix.NFT_MSG_DELTABLE, 0, in)))
}

// elementKey returns an element as the kernel has it, nil if it has a field that
// does not fit its set.
func elementKey(k dataplane.ElementKey) []byte {
	vni := []byte{byte(k.VNI >> 16), byte(k.VNI >> 8), byte(k.VNI)}
	switch {
	case k.Set.Kind == dataplane.Networks:
		return vni
	case !k.Addr.IsValid() || k.Addr.Is4() != (k.Set.Family == dataplane.IPv4):
		return nil
	case k.Set.Kind == dataplane.Peers:
		if p := netip.PrefixFrom(k.From, int(k.Set.Bits)); p.Masked() != p || k.From.Is4() != (k.Set.Inner == dataplane.IPv4) {
			return nil
		}
		return slices.Concat(k.Addr.AsSlice(), vni, []byte{0}, k.From.AsSlice())
	case k.Set.Kind == dataplane.Owners:
		return k.Addr.AsSlice()
	case k.Link == "" || len(k.Link) >= unix.IFNAMSIZ:
		return nil
	}
	key := make([]byte, unix.IFNAMSIZ, unix.IFNAMSIZ+8+16)
	copy(key, k.Link)
	key = append(key, k.MAC[:]...)
	return append(append(key, 0, 0), k.Addr.AsSlice()...)
}

// elementOf is the reverse of elementKey; ok is false for what is none of a set, and
// for what only a program that knows no names of links could have put there: it
// matches nothing.
func elementOf(set dataplane.SetKey, key []byte) (e dataplane.Element, ok bool) {
	if _, size := keyType(set); len(key) != int(size) {
		return e, false
	}
	e.Set = set
	rest := key
	if set.Kind == dataplane.Sources {
		name, _, _ := bytes.Cut(key[:unix.IFNAMSIZ], []byte{0})
		e.Link = string(name)
		copy(e.MAC[:], key[unix.IFNAMSIZ:])
		rest = key[unix.IFNAMSIZ+8:]
	}
	if set.Kind != dataplane.Networks {
		e.Addr = addr(rest[:addrLen(set.Family)])
		rest = rest[addrLen(set.Family):]
	}
	if set.Kind == dataplane.Networks || set.Kind == dataplane.Peers {
		e.VNI = cluster.VNI(rest[0])<<16 | cluster.VNI(rest[1])<<8 | cluster.VNI(rest[2])
	}
	if set.Kind == dataplane.Peers {
		e.From = addr(rest[padded(vniLen):])
	}
	return e, bytes.Equal(elementKey(e.ElementKey), key)
}

func (n *nft) readElements(set dataplane.SetKey, state *dataplane.State) error {
	name := nl.NewRtAttr(unix.NFTA_SET_ELEM_LIST_SET, nl.ZeroTerminated(set.Name()))
	return n.list(unix.NFT_MSG_GETSETELEM, set.In(), func(list []syscall.NetlinkRouteAttr) {
		for _, a := range attrs(valueOf(list, unix.NFTA_SET_ELEM_LIST_ELEMENTS)) {
			e, ok := elementOf(set, nested(a.Value, unix.NFTA_SET_ELEM_KEY, unix.NFTA_DATA_VALUE))
			if !ok {
				continue
			}
			if set.IsMap() {
				copy(e.Owner[:], nested(a.Value, unix.NFTA_SET_ELEM_DATA, unix.NFTA_DATA_VALUE))
			}
			if state.Elements == nil {
				state.Elements = map[dataplane.ElementKey]dataplane.Element{}
			}
			state.Elements[e.ElementKey] = e
		}
	}, name)
}

func (n *nft) applyElement(verb dataplane.Verb, r dataplane.Element) error {
	m, err := elementMessage(verb, r)
	if err != nil {
		return err
	}
	err = unlessGone(verb, n.transact(m))
	switch {
	case verb == dataplane.Delete:
	case r.Set.IsMap() && (errors.Is(err, unix.EEXIST) || errors.Is(err, unix.EBUSY)):
		return n.remap(r)
	case errors.Is(err, unix.EEXIST):
		return nil
	}
	return err
}

// remap lets an address map to another MAC: the kernel changes no element of a map
// (err_element_clash of nft_add_set_elem in net/netfilter/nf_tables_api.c, EBUSY in
// older kernels). In one transaction, so that there is no moment without.
func (n *nft) remap(r dataplane.Element) error {
	old, err := elementMessage(dataplane.Delete, r)
	if err != nil {
		return err
	}
	m, err := elementMessage(dataplane.Create, r)
	if err != nil {
		return err
	}
	return n.transact(old, m)
}

// elementMessage makes or deletes an element.
func elementMessage(verb dataplane.Verb, r dataplane.Element) (*nl.NetlinkRequest, error) {
	key := elementKey(r.ElementKey)
	if key == nil {
		return nil, refusal("it does not fit " + r.Set.String())
	}
	m := makes(unix.NFT_MSG_NEWSETELEM, r.Set.In())
	if verb == dataplane.Delete {
		m = nftMessage(unix.NFT_MSG_DELSETELEM, 0, r.Set.In())
	}
	add(m, unix.NFTA_SET_ELEM_LIST_SET, nl.ZeroTerminated(r.Set.Name()))
	list := nl.NewRtAttr(unix.NFTA_SET_ELEM_LIST_ELEMENTS, nil)
	addElement(list, key, r)
	m.AddData(list)
	return m, nil
}

// addElement adds an element to the list of a message: its key, and in a map its value.
func addElement(list *nl.RtAttr, key []byte, r dataplane.Element) {
	e := list.AddRtAttr(unix.NFTA_LIST_ELEM, nil)
	e.AddRtAttr(unix.NFTA_SET_ELEM_KEY, nil).AddRtAttr(unix.NFTA_DATA_VALUE, key)
	if r.Set.IsMap() {
		e.AddRtAttr(unix.NFTA_SET_ELEM_DATA, nil).AddRtAttr(unix.NFTA_DATA_VALUE, r.Owner[:])
	}
}

var _ reconcile.Filler = (*Linux)(nil)

// maxFill is how many elements go into one message: the longest has 52 bytes, and
// the attribute that holds them all 64 KiB less one.
const maxFill = 1000

// Fill implements [reconcile.Filler]: as many elements of one set in a transaction as
// a message takes.
func (l *Linux) Fill(ctx context.Context, elements []dataplane.Element) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(elements) > 0 && ctx.Err() == nil {
		set := elements[0].Set
		m := makes(unix.NFT_MSG_NEWSETELEM, set.In())
		add(m, unix.NFTA_SET_ELEM_LIST_SET, nl.ZeroTerminated(set.Name()))
		list := nl.NewRtAttr(unix.NFTA_SET_ELEM_LIST_ELEMENTS, nil)
		n := 0
		for ; n < min(len(elements), maxFill) && elements[n].Set == set; n++ {
			key := elementKey(elements[n].ElementKey)
			if key == nil {
				return refusal("it does not fit " + set.String())
			}
			addElement(list, key, elements[n])
		}
		m.AddData(list)
		if err := l.nft.transact(m); err != nil {
			return err
		}
		elements = elements[n:]
	}
	return ctx.Err()
}
