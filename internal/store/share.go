package store

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/ovlnet/ovl/internal/cluster"
)

// bound leaves out what hosts have beyond what one may have, and makes a problem of
// it: a store that does not refuse it must not exhaust those who read it. Those with
// the last keys go, so that all readers leave out the same.
func (b *snapshotBuilder) bound() {
	b.leases = bounded(b, b.leases, MaxHostLeases, "subnets and static addresses",
		func(l cluster.Lease) cluster.HostID { return l.Host },
		func(x, y cluster.Lease) int {
			return cmp.Or(cmp.Compare(x.Network, y.Network), cluster.ComparePrefix(x.Prefix, y.Prefix))
		})
	b.endpoints = bounded(b, b.endpoints, MaxHostEndpoints, "endpoints",
		func(e cluster.Endpoint) cluster.HostID { return e.Host },
		func(x, y cluster.Endpoint) int {
			return cmp.Or(cmp.Compare(x.Network, y.Network), cmp.Compare(x.ID, y.ID))
		})
}

func bounded[T any](b *snapshotBuilder, all []T, most int, what string, of func(T) cluster.HostID, order func(x, y T) int) []T {
	if len(all) <= most {
		return all
	}
	count := map[cluster.HostID]int{}
	for _, r := range all {
		count[of(r)]++
	}
	ahead := map[cluster.HostID]int{}
	for host, n := range count {
		if n > most {
			ahead[host] = 0
			b.problems = append(b.problems, cluster.Problem{
				Severity: cluster.SeverityError, Subject: "host " + string(host),
				What: fmt.Sprintf("it has %d %s in the store: all but %d are ignored", n, what, most),
				Hint: "an honest agent has never so many: see `ovlctl host ls`, and remove it with `ovlctl host rm --force`",
			})
		}
	}
	if len(ahead) == 0 {
		return all
	}
	slices.SortFunc(all, order)
	return slices.DeleteFunc(all, func(r T) bool {
		n, much := ahead[of(r)]
		if !much {
			return false
		}
		ahead[of(r)] = n + 1
		return n >= most
	})
}
