package kernel

import (
	"slices"
	"sync"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/ovlnet/ovl/internal/dataplane"
)

// generations remembers which generations of nf_tables are of our making. The
// kernel counts all changes of all tables in a namespace, and tells the number
// with each (nf_tables_commit in net/netfilter/nf_tables_api.c). If it went from n
// to n+1 while a program of ours made its one change, then n+1 is that change and
// there was no other. Otherwise somebody else wrote too, and all of it has to be
// read.
//
// By its process a change of an iptables program cannot be known: the number that
// the kernel tells is that of the first PID namespace, ours that of our own.
//
// Who writes to nf_tables over a socket of ours needs none of this: the monitor
// knows such changes by the socket's port (see [Monitor.firewallEvent]). It has to
// hold Linux.mu, as Apply does, so that it does not write within a program's turn.
type generations struct {
	// turn is held while a program of ours may be writing: whoever asks for a
	// generation meanwhile waits until it is known whose it is.
	turn sync.RWMutex
	own  [64]uint32
	next int
}

// made reports whether a generation is of our making.
func (g *generations) made(id uint32) bool {
	g.turn.RLock()
	defer g.turn.RUnlock()
	return id != 0 && slices.Contains(g.own[:], id)
}

// during runs write, which makes one change or fails, and notes whose the change
// is. now tells the current generation, 0 if it is not known.
func (g *generations) during(now func() uint32, write func() error) error {
	g.turn.Lock()
	defer g.turn.Unlock()
	before := now()
	err := write()
	if after := now(); err == nil && before != 0 && after == before+1 {
		g.own[g.next%len(g.own)] = after
		g.next++
	}
	return err
}

// nftGenID is NFTA_GEN_ID of include/uapi/linux/netfilter/nf_tables.h.
const nftGenID = 1

// generation returns the current generation of nf_tables, 0 if it is not known.
func (n *nft) generation() (id uint32) {
	m := request(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETGEN, 0, nfgen(unix.AF_UNSPEC, 0))
	err := n.conn.do(m, func(body []byte) {
		if len(body) >= nl.SizeofNfgenmsg {
			id = generationIn(body[nl.SizeofNfgenmsg:])
		}
	})
	if err != nil {
		return 0 // a kernel without nf_tables: nobody will ask
	}
	return id
}

// generationIn returns the generation that a message tells of, 0 if none.
func generationIn(b []byte) uint32 {
	for typ, value := range fields(b) {
		if typ == nftGenID {
			return fromBE32(value)
		}
	}
	return 0
}

// wallTables are the tables in which iptables' rules are.
const wallTables = dataplane.Tables(1<<dataplane.TableChain | 1<<dataplane.TableJump)
