package plan

import "github.com/ovlnet/ovl/internal/cluster"

// drivers holds, for each driver, what emits the rows of a network of it: this
// host's own piece, and the ways to the other hosts' pieces. With the driver
// bridge there are none. A driver that is not here is one of a newer ovl.
var drivers = map[cluster.Driver]func(*planner, network){
	cluster.DriverOverlay: (*planner).overlay,
	cluster.DriverBridge:  (*planner).bridged,
	cluster.DriverMacvlan: (*planner).macvlan,
}

// overlay emits a network whose hosts reach each other's subnets by VXLAN, or
// directly where that is asked for and can be.
func (p *planner) overlay(n network) {
	p.bridged(n)
	p.tunnel(n)
	p.serviceSource(n)
	p.directPools(n)
	p.peers(n)
}

// Knows reports whether networks of that driver can be planned.
func Knows(d cluster.Driver) bool {
	_, ok := drivers[d]
	return ok
}
