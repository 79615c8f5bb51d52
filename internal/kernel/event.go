package kernel

import (
	"os"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/ovlnet/ovl/internal/dataplane"
)

// routeEvent adds to scope what an rtnetlink message may have changed.
func (m *Monitor) routeEvent(e event, scope dataplane.Scope) {
	ns, ok := m.where(e.nsid)
	if !ok || m.own(e) {
		return
	}
	if ns != dataplane.Host {
		if tables := containerTables(e); tables != 0 {
			scope.Add(ns, tables)
		}
		return
	}
	switch e.typ {
	case unix.RTM_DELNSID:
		m.forget(e, scope)
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		if tables := m.linkTables(e.body); tables != 0 {
			scope.Add(ns, tables)
		}
	case unix.RTM_NEWQDISC, unix.RTM_DELQDISC:
		if _, ours := m.kernel.kindOf(qdiscLink(e.body)); ours {
			scope.Add(ns, dataplane.Of(dataplane.TableQdisc))
		}
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		if index, p, ok := decodeAddr(e.body); !ok || !p.Addr().IsLinkLocalUnicast() || m.isBridge(index) {
			scope.Add(ns, dataplane.Of(dataplane.TableAddr, dataplane.TableRoute))
		}
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		if r, ok := decodeRoute(e.body); ok && r.table == unix.RT_TABLE_MAIN && !r.linkLocal() {
			scope.Add(ns, dataplane.Of(dataplane.TableRoute))
		}
	case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
		if tables := m.neighTables(e.typ, e.body); tables != 0 {
			scope.Add(ns, tables)
		}
	case unix.RTM_NEWNETCONF, unix.RTM_DELNETCONF:
		if m.ofHost(e.body) {
			scope.Add(ns, dataplane.Of(dataplane.TableSysctl))
		}
	}
}

// where returns the namespace of an event, if it is one that is watched.
func (m *Monitor) where(nsid int32) (dataplane.NS, bool) {
	if nsid < 0 {
		return dataplane.Host, true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	ns, ok := m.ids[nsid]
	return ns, ok
}

// own reports whether a message tells of a change that we asked for. The
// kernel tells of FDB entries and of deleted neighbours in nobody's name
// (vxlan_fdb_notify, neigh_cleanup_and_release), so that these wake all the same:
// one look at that table too many. The socket
// that we open in a container's namespace is the first of this process there,
// so that the kernel gives it the process's ID as its port (netlink_autobind in
// net/netlink/af_netlink.c).
func (m *Monitor) own(e event) bool {
	if e.nsid < 0 {
		return e.port != 0 && e.port == m.kernel.host.conn.port
	}
	return e.port == uint32(os.Getpid())
}

// isBridge reports whether the link of that index is a bridge of ours, which has
// a link-local address of ours.
func (m *Monitor) isBridge(index int32) bool {
	kind, ours := m.kernel.kindOf(index)
	return ours && kind == dataplane.Bridge
}

// containerTables returns what a message from a container's namespace may have
// changed. Neighbours there are the container's own business, and what is
// link-local is the kernel's, which tells of it for seconds after a link came up
// (addrconf_dad_completed in net/ipv6/addrconf.c).
func containerTables(e event) dataplane.Tables {
	switch e.typ {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		return dataplane.NSTables
	case unix.RTM_NEWQDISC, unix.RTM_DELQDISC:
		return dataplane.Of(dataplane.TableQdisc)
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		if _, p, ok := decodeAddr(e.body); !ok || !p.Addr().IsLinkLocalUnicast() {
			return dataplane.Of(dataplane.TableAddr, dataplane.TableRoute)
		}
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		if r, ok := decodeRoute(e.body); ok && r.table == unix.RT_TABLE_MAIN && !r.linkLocal() {
			return dataplane.Of(dataplane.TableRoute)
		}
	}
	return 0
}

// linkLocal reports whether the kernel itself made a route of a link's own.
func (r routeInfo) linkLocal() bool {
	return r.protocol == unix.RTPROT_KERNEL && (r.dst.Addr().IsLinkLocalUnicast() || r.dst.Addr().IsMulticast())
}

// linkTables returns what a change of a link on the host may have changed. The
// host's end of a veth has nothing of ours on it but a qdisc, and as a port of a bridge
// (AF_BRIDGE) no link has. One whose name is not ours concerns only the facts,
// and those only if they are of it: an address or a route that it gets is told
// of by itself.
func (m *Monitor) linkTables(body []byte) dataplane.Tables {
	index, port := portIndex(body)
	kind, seen := m.kernel.kindOf(index)
	if port {
		if seen {
			return dataplane.Of(dataplane.TableLink)
		}
		return 0
	}
	l, ok := decodeLink(body)
	switch {
	case !ok:
		return netlinkTables
	case seen && kind == dataplane.Veth, strings.HasPrefix(l.name, dataplane.VethPrefix):
		return dataplane.Of(dataplane.TableLink, dataplane.TableQdisc)
	case seen, dataplane.OwnsName(l.name):
		return netlinkTables
	case m.kernel.isFact(index), m.watches(l.name):
		return dataplane.NSTables
	}
	return 0
}

// portIndex returns the index of the link that a struct ifinfomsg is about, and
// whether it is about the link as a port of a bridge (br_ifinfo_notify in
// net/bridge/br_netlink.c).
func portIndex(body []byte) (index int32, port bool) {
	if len(body) < unix.SizeofIfInfomsg {
		return 0, false
	}
	return int32(u32(body[4:])), body[0] == unix.AF_BRIDGE
}

// ofHost reports whether a message about parameters (struct netconfmsg with its
// attributes) is about those of the host as a whole or of a link of ours: each
// link that appears is told of.
func (m *Monitor) ofHost(body []byte) bool {
	for typ, value := range fields(body[min(unix.NLMSG_ALIGNTO, len(body)):]) {
		if typ == netconfIndex && len(value) >= 4 {
			index := int32(u32(value))
			kind, ours := m.kernel.kindOf(index)
			return index < 0 || ours && kind != dataplane.Veth
		}
	}
	return true
}

// netconfIndex is NETCONFA_IFINDEX of include/uapi/linux/netconf.h: -1 stands for
// all links, -2 for those to come.
const netconfIndex = 1

// neighTables returns which table an entry belongs to, if any of ours. Bridges
// of ours resolve and learn all the time; all but a neighbour there that is or was
// permanent, and a static entry that has gone, is noise. One that is made is our own mostly, and the
// bridge tells of it in nobody's name (fdb_notify in net/bridge/br_fdb.c): what
// somebody else adds is seen when next the table is read.
func (m *Monitor) neighTables(typ uint16, body []byte) dataplane.Tables {
	n, ok := decodeNeigh(body)
	if !ok {
		return 0
	}
	kind, ours := m.kernel.kindOf(n.index)
	switch {
	case !ours:
		return 0
	case body[0] == unix.AF_BRIDGE && kind == dataplane.VXLAN:
		return dataplane.Of(dataplane.TableFDB)
	case body[0] == unix.AF_BRIDGE && kind == dataplane.Veth && n.static() && typ == unix.RTM_DELNEIGH:
		return dataplane.Of(dataplane.TableFDB)
	case body[0] == unix.AF_BRIDGE:
		return 0
	case kind == dataplane.VXLAN || n.state&unix.NUD_PERMANENT != 0 || m.kernel.lost(n):
		return dataplane.Of(dataplane.TableNeigh)
	}
	return 0
}

// forget drops the number of a namespace that has ended, since the kernel will
// give it to another one.
func (m *Monitor) forget(e event, scope dataplane.Scope) {
	m.mu.Lock()
	defer m.mu.Unlock()
	id := nsidIn(e.body)
	if ns, ok := m.ids[id]; ok {
		scope.Add(ns, dataplane.NSTables)
		delete(m.ids, id)
	}
}

// nftNewGeneration is the message that ends each change of nf_tables.
const nftNewGeneration = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWGEN

// firewallEvent adds the firewall to scope, unless the change was made over a
// socket of ours or by an iptables program that we started: see [generations]. The
// messages ahead of the one that ends a change tell what has changed: only they
// say whether it is in a table of ours.
func (m *Monitor) firewallEvent(e event, scope dataplane.Scope) {
	if e.port == m.kernel.nft.conn.port || len(e.body) < nl.SizeofNfgenmsg {
		return
	}
	list := e.body[nl.SizeofNfgenmsg:]
	switch {
	case e.typ != nftNewGeneration:
		for _, in := range nftTables {
			if e.body[0] == nfFamily(in) && textOf(attrs(list), unix.NFTA_TABLE_NAME) == dataplane.NFTableName {
				scope.Add(dataplane.Host, dataplane.NFTables)
			}
		}
	case !m.kernel.firewall.generations.made(generationIn(list)):
		scope.Add(dataplane.Host, wallTables)
	}
}
