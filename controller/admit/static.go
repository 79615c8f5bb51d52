package admit

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/ipam"
)

// leastHosts is how many hosts' subnets a static range must leave of its pool:
// with fewer, only one host could join the network.
const leastHosts = 2

// staticRanges parses the static ranges of a network with those pools, and puts
// them in the order of the pools: that of a request means nothing.
func staticRanges(vs *list, texts []string, driver cluster.Driver, pools []cluster.Pool) []netip.Prefix {
	if len(texts) > 0 && driver == cluster.DriverMacvlan {
		vs.addf("static_ranges", "mean nothing with the driver macvlan, whose addresses are on every host: leave them out")
		return nil
	}
	if len(texts) > 2 {
		vs.addf("static_ranges", "%d are too many: give at most one in each subnet", len(texts))
		return nil
	}
	byPool := map[cluster.Pool]netip.Prefix{}
	for i, text := range texts {
		field := fmt.Sprintf("static_ranges[%d]", i)
		r, ok := parsePrefix(vs, field, text)
		if !ok {
			continue
		}
		pool, ok := cluster.Network{Pools: pools}.Pool(r)
		switch {
		case len(pools) == 0:
			vs.addf(field, "%s is within no subnet that is asked for: give the subnet that it is a part of, too", r)
		case !ok:
			vs.addf(field, "%s is not within %s: use a part of a subnet of the network", r, prefixTexts(pools))
		case byPool[pool].IsValid():
			vs.addf(field, "%s is the second in %s: give at most one in each subnet", r, pool.Prefix)
		case ipam.Subnets(pool, r) < leastHosts && ipam.Subnets(pool, netip.Prefix{}) >= leastHosts:
			vs.addf(field, "%s leaves too little of %s: of its pieces of length /%d, which hosts take, at least %d must be outside of it; use a smaller range", r, pool.Prefix, pool.HostPrefix, leastHosts)
		default:
			byPool[pool] = r
		}
	}
	var out []netip.Prefix
	for _, pool := range pools {
		if r, ok := byPool[pool]; ok {
			out = append(out, r)
		}
	}
	return out
}

func prefixTexts(pools []cluster.Pool) string {
	var texts []string
	for _, p := range pools {
		texts = append(texts, p.Prefix.String())
	}
	return strings.Join(texts, " or ")
}
