package attach

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/ovlnet/ovl/internal/cluster"
)

// engaged tells who has an address of a macvlan network that is no container's to
// have, or "": on a segment there are others than containers. A host may have got
// its address after the piece around it was taken.
func (s supply) engaged(n cluster.Network, pool cluster.Pool, a netip.Addr) string {
	if n.Driver != cluster.DriverMacvlan {
		return ""
	}
	switch leased := pool.Leased().Prefix; {
	case a == pool.Gateway:
		return "the gateway of the segment"
	case !leased.Contains(a):
		return fmt.Sprintf("outside of its range for containers, %s", leased)
	}
	for _, h := range s.hosts {
		if slices.Contains(h.Underlay, a) {
			return "that of host " + h.Name
		}
	}
	return ""
}
