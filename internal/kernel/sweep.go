package kernel

import (
	"context"
	"math/rand/v2"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/reconcile"
)

var _ reconcile.Sweeper = (*Linux)(nil)

// Sweep implements [reconcile.Sweeper]. The links are put into a group of links
// (IFLA_GROUP) that nobody uses, and the group is deleted. One that dies between
// the two leaves links that are ours and not wanted, as before.
func (l *Linux) Sweep(ctx context.Context, links []dataplane.Link) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	ours, group, err := l.host.find(links)
	if err != nil {
		l.log.Debug("links are deleted one by one", "err", err)
		return
	}
	for _, index := range ours {
		m := change(unix.RTM_NEWLINK, 0, ifinfo(index))
		add(m, unix.IFLA_GROUP, nl.Uint32Attr(group))
		_ = l.host.conn.do(m, nil) // what is not in the group is deleted by itself
	}
	m := change(unix.RTM_DELLINK, 0, ifinfo(0))
	add(m, unix.IFLA_GROUP, nl.Uint32Attr(group))
	if err := l.host.conn.do(m, nil); err != nil {
		l.log.Debug("links are deleted one by one", "err", err)
	}
}

// find returns the indexes of those of the links that are there and ours, and the
// number of a group that no link is in.
func (s *space) find(links []dataplane.Link) (indexes []int32, group uint32, err error) {
	wanted := make(map[string]bool, len(links))
	for _, l := range links {
		wanted[l.Name] = true
	}
	used := map[uint32]bool{0: true}
	m := dump(unix.RTM_GETLINK, ifinfo(0))
	add(m, unix.IFLA_EXT_MASK, nl.Uint32Attr(skipStatistics))
	err = s.conn.do(m, func(body []byte) {
		l, ok := decodeLink(body)
		if !ok {
			return
		}
		if v := nested(body[unix.SizeofIfInfomsg:], unix.IFLA_GROUP); len(v) == 4 {
			used[u32(v)] = true
		}
		if wanted[l.name] && l.kind == string(dataplane.Veth) && dataplane.OwnsLink(s.ns, l.name, l.alias) {
			indexes = append(indexes, l.index)
			delete(s.index, l.name)
		}
	})
	for used[group] {
		group = rand.Uint32() //nolint:gosec // any that is free
	}
	return indexes, group, err
}
