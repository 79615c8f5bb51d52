package kernel

import (
	"context"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/ovlnet/ovl/internal/dataplane"
)

// observation reads one namespace: one dump per table, not per link.
type observation struct {
	linux  *Linux
	space  *space
	tables dataplane.Tables
	links  map[int32]*linkInfo
	state  dataplane.State
	facts  *dataplane.HostFacts
}

// netlinkTables are those whose rows hang on links; factTables those of which
// the facts of the host are made.
const (
	netlinkTables = 1<<dataplane.TableLink | 1<<dataplane.TableQdisc | 1<<dataplane.TableAddr | 1<<dataplane.TableNeigh | 1<<dataplane.TableFDB | 1<<dataplane.TableRoute
	factTables    = dataplane.NSTables &^ (1 << dataplane.TableQdisc)
)

func (o *observation) read(ctx context.Context) error {
	if o.space.ns == dataplane.Host {
		if err := o.readHostOnly(ctx); err != nil {
			return err
		}
	}
	if o.tables&netlinkTables == 0 {
		return nil
	}
	var facts *factsMaker
	if o.space.ns == dataplane.Host && o.tables&factTables != 0 {
		facts = &factsMaker{links: map[int32]bool{}}
	}
	if err := o.readLinks(); err != nil {
		return err
	}
	if o.tables.Has(dataplane.TableQdisc) {
		if err := o.readQdiscs(); err != nil {
			return err
		}
	}
	if facts != nil || o.tables.Has(dataplane.TableAddr) {
		if err := o.readAddrs(facts); err != nil {
			return err
		}
	}
	if o.tables.Has(dataplane.TableNeigh) {
		if err := o.readNeighs(); err != nil {
			return err
		}
	}
	if o.tables.Has(dataplane.TableFDB) {
		if err := o.readFDB(); err != nil {
			return err
		}
	}
	if facts != nil || o.tables.Has(dataplane.TableRoute) {
		if err := o.readRoutes(facts); err != nil {
			return err
		}
	}
	if facts != nil {
		o.facts = facts.facts(o.links, o.linux.firewall.dockerUser)
		o.facts.NoGuard = o.linux.noGuard
		o.linux.factual.Store(&facts.links)
	}
	return nil
}

// readHostOnly reads the tables that only the host has.
func (o *observation) readHostOnly(ctx context.Context) error {
	if o.tables.Has(dataplane.TableSysctl) {
		if err := o.readSysctls(); err != nil {
			return err
		}
	}
	if o.tables&dataplane.NFTables != 0 {
		if err := o.linux.nft.observe(o.linux.noGuard, o.tables, &o.state); err != nil {
			return err
		}
	}
	if o.tables.Has(dataplane.TableChain) || o.tables.Has(dataplane.TableJump) {
		if err := o.linux.firewall.observe(ctx, o.tables, &o.state); err != nil {
			return err
		}
	}
	if o.tables.Has(dataplane.TableFlow) {
		return o.readFlows()
	}
	return nil
}

// skipStatistics is RTEXT_FILTER_SKIP_STATS of include/uapi/linux/rtnetlink.h:
// counters are most of a link's message, and of the time to decode it.
const skipStatistics = 1 << 3

// readLinks reads all links, since the rows of other tables name theirs by
// index, and remembers the indexes of ours.
func (o *observation) readLinks() error {
	o.links = map[int32]*linkInfo{}
	m := dump(unix.RTM_GETLINK, ifinfo(0))
	add(m, unix.IFLA_EXT_MASK, nl.Uint32Attr(skipStatistics))
	// Decoded when all are here: a link that comes or goes while they are being
	// read makes the reading worth nothing, so it has to be quick.
	var bodies [][]byte
	if err := o.space.conn.do(m, func(body []byte) { bodies = append(bodies, body) }); err != nil {
		return err
	}
	for _, body := range bodies {
		if l, ok := decodeLink(body); ok {
			o.links[l.index] = &l
		}
	}
	clear(o.space.index)
	kinds := map[int32]dataplane.LinkKind{}
	for _, l := range o.links {
		if l.ours = dataplane.OwnsLink(o.space.ns, l.name, l.alias); !l.ours {
			continue
		}
		o.space.index[l.name] = l.index
		kinds[l.index] = dataplane.LinkKind(l.kind)
		if !o.tables.Has(dataplane.TableLink) {
			continue
		}
		row, err := o.linux.linkRow(o.space, l, o.links)
		if err != nil {
			return err
		}
		o.state.Add(row)
	}
	if o.space.ns == dataplane.Host {
		o.linux.kinds.Store(&kinds)
	}
	return nil
}

// ours returns the link of that index if it is ours.
func (o *observation) ours(index int32) (*linkInfo, bool) {
	l, ok := o.links[index]
	return l, ok && l.ours
}
