package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/ovlnet/ovl/internal/dataplane"
)

// nft speaks to nf_tables: about our two tables and no other.
type nft struct{ conn *conn }

// openNFT opens a socket in the network namespace of the calling thread. It
// succeeds on a kernel without nf_tables: then requests fail with EINVAL.
func openNFT() (*nft, error) {
	c, err := openConnOf(unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("open nf_tables: %w", err)
	}
	return &nft{c}, nil
}

var nftTables = []dataplane.NFTable{dataplane.NFInet, dataplane.NFBridge}

// nfFamily returns the number of a table's family.
func nfFamily(t dataplane.NFTable) uint8 {
	if t == dataplane.NFBridge {
		return unix.NFPROTO_BRIDGE
	}
	return unix.NFPROTO_INET
}

// nfgen is the header of all messages of nfnetlink.
func nfgen(family uint8, resource uint16) *nl.Nfgenmsg {
	return &nl.Nfgenmsg{NfgenFamily: family, Version: unix.NFNETLINK_V0, ResId: native.Uint16(nl.BEUint16Attr(resource))}
}

// nftMessage begins a message about a table. In all of them the first attribute
// is the table's name.
func nftMessage(typ, flags int, in dataplane.NFTable) *nl.NetlinkRequest {
	m := request(unix.NFNL_SUBSYS_NFTABLES<<8|typ, flags, nfgen(nfFamily(in), 0))
	add(m, unix.NFTA_TABLE_NAME, nl.ZeroTerminated(dataplane.NFTableName))
	return m
}

// makes begins a message that makes something, or leaves what is there.
func makes(typ int, in dataplane.NFTable) *nl.NetlinkRequest {
	return nftMessage(typ, unix.NLM_F_CREATE|unix.NLM_F_APPEND, in)
}

// list calls f with the attributes of each object that a dump tells of; more may
// narrow it. What is not there has nothing to list.
func (n *nft) list(typ int, in dataplane.NFTable, f func(attrs []syscall.NetlinkRouteAttr), more ...nl.NetlinkRequestData) error {
	m := nftMessage(typ, unix.NLM_F_DUMP, in)
	for _, a := range more {
		m.AddData(a)
	}
	err := n.conn.do(m, func(body []byte) {
		if len(body) >= nl.SizeofNfgenmsg {
			f(attrs(body[nl.SizeofNfgenmsg:]))
		}
	})
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// exists reports whether one of our tables is there.
func (n *nft) exists(in dataplane.NFTable) (bool, error) {
	err := n.conn.do(nftMessage(unix.NFT_MSG_GETTABLE, 0, in), nil)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	return err == nil, err
}

// transact does all of the messages or none.
func (n *nft) transact(messages ...*nl.NetlinkRequest) error {
	return n.batch(true, messages...)
}

// try has the kernel check the messages as a transaction that is then given up.
func (n *nft) try(messages ...*nl.NetlinkRequest) error {
	return n.batch(false, messages...)
}

// batch sends messages between the marks of a transaction; without the mark at
// its end the kernel undoes what it has done (nfnetlink_rcv_batch in
// net/netfilter/nfnetlink.c).
func (n *nft) batch(commit bool, messages ...*nl.NetlinkRequest) error {
	last := messages[len(messages)-1]
	last.Flags |= unix.NLM_F_ACK
	b := nl.NewNetlinkRequest(unix.NFNL_MSG_BATCH_BEGIN, 0)
	b.AddData(nfgen(unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES))
	buf := b.Serialize()
	for _, m := range messages {
		buf = append(buf, m.Serialize()...)
	}
	if commit {
		b = nl.NewNetlinkRequest(unix.NFNL_MSG_BATCH_END, 0)
		b.AddData(nfgen(unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES))
		buf = append(buf, b.Serialize()...)
	}
	fd := n.conn.sockets[n.conn.protocol].Socket.GetFd()
	if err := unix.Sendto(fd, buf, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	return n.verdict(fd, last.Seq)
}

// able returns why the kernel cannot have what our guards in a table are made of,
// nil if it can. It is told to make something of the kind, and to give it up.
func (n *nft) able(in dataplane.NFTable) error {
	set := dataplane.PeerSet(dataplane.IPv4, netip.MustParsePrefix("0.0.0.0/24"))
	rule := "ip saddr . @th,96,24 . @th,336,32 & 0xffffff00 @" + set.Name() + " counter accept"
	if in == dataplane.NFBridge {
		set = dataplane.SetKey{Kind: dataplane.Sources, Family: dataplane.IPv4}
		rule = "meta iifname . ether saddr . ip saddr @" + set.Name() + " counter accept"
	}
	sample := dataplane.NewGuard(in, fmt.Sprintf(hookLine, "probe", nftHooks[0], 0), rule)
	messages, err := writing(sample)
	if err != nil {
		return err
	}
	return n.try(slices.Insert(messages, 1, newSet(set, 1))...)
}

// errNoVerdict says that the kernel left a transaction without an answer.
var errNoVerdict = fmt.Errorf("nf_tables gave no answer: %w", unix.EAGAIN)

// verdict reads what the kernel answered to a transaction: the first error, or
// the acknowledgement of its last message. All of it is there when sendto
// returns.
func (n *nft) verdict(fd int, last uint32) error {
	buf := make([]byte, 1<<14)
	result, answered := error(nil), false
	for {
		size, _, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN) && result == nil && !answered:
			return errNoVerdict
		case errors.Is(err, unix.EAGAIN):
			return result
		case err != nil:
			return err
		}
		answers, err := syscall.ParseNetlinkMessage(buf[:size])
		if err != nil {
			return fmt.Errorf("parse answer of nf_tables: %w", err)
		}
		for _, a := range answers {
			if a.Header.Type != unix.NLMSG_ERROR || len(a.Data) < 4 {
				continue
			}
			if code := int32(u32(a.Data)); code != 0 && result == nil {
				result = unix.Errno(-code)
			}
			answered = answered || a.Header.Seq == last
		}
	}
}

// observe reads what is ours in nf_tables, but in the tables that it cannot have.
func (n *nft) observe(without [2]bool, tables dataplane.Tables, state *dataplane.State) error {
	for _, in := range nftTables {
		if without[in] {
			continue
		}
		sets, err := n.sets(in)
		if err != nil {
			return fmt.Errorf("read sets of %s: %w", in, err)
		}
		for _, s := range sets {
			if s.ours && tables.Has(dataplane.TableSet) {
				state.Add(dataplane.Set{SetKey: s.key})
			}
			if s.ours && tables.Has(dataplane.TableElement) {
				if err := n.readElements(s.key, state); err != nil {
					return fmt.Errorf("read %s: %w", s.key, err)
				}
			}
		}
		if tables.Has(dataplane.TableGuard) {
			if err := n.readGuard(in, sets, state); err != nil {
				return fmt.Errorf("read rules of %s: %w", in, err)
			}
		}
	}
	return nil
}

// be32 is a number in network byte order, as nf_tables has all of them.
func be32(v uint32) []byte { return nl.BEUint32Attr(v) }

func fromBE32(v []byte) uint32 {
	if len(v) != 4 {
		return 0
	}
	return uint32(v[0])<<24 | uint32(v[1])<<16 | uint32(v[2])<<8 | uint32(v[3])
}

// valueOf returns the value of the attribute of that type, nil if there is none.
func valueOf(list []syscall.NetlinkRouteAttr, typ uint16) []byte {
	for _, a := range list {
		if a.Attr.Type&nl.NLA_TYPE_MASK == typ {
			return a.Value
		}
	}
	return nil
}

func textOf(list []syscall.NetlinkRouteAttr, typ uint16) string {
	return unix.ByteSliceToString(valueOf(list, typ))
}
