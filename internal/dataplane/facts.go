package dataplane

import "net/netip"

// Facts is what an observation tells besides rows of ours.
type Facts struct {
	// Host is nil unless the scope covered links, addresses or routes of the
	// host's namespace.
	Host *HostFacts
	// Gone lists the namespaces of the scope that no longer exist. They have
	// no rows.
	Gone []NS
}

// HostFacts is what a plan must know of the host that is not ours.
type HostFacts struct {
	// Links that are not ours, sorted by name.
	Links []HostLink
	// Routes that are not ours and not the default route: the prefixes that an
	// overlay network must not cover. Sorted, without duplicates, host routes
	// of own addresses and multicast left out.
	Routes []netip.Prefix
	// DefaultLink is the link of the default route with the lowest metric, of
	// IPv4 if there is one; empty if there is none.
	DefaultLink string
	// DockerUser says in which families the filter table has a chain
	// DOCKER-USER (IPv4 first).
	DockerUser [2]bool
	// NoGuard says which tables of nf_tables this kernel cannot have, by
	// [NFTable].
	NoGuard [2]bool
}

// HostLink is a link of the host that is not ours.
type HostLink struct {
	Name  string
	MTU   int // bytes
	Up    bool
	Kind  string         // as the kernel calls it: veth, vlan; device = none
	Addrs []netip.Prefix // not link-local, sorted
	// OnLink are the prefixes whose addresses are reached through the link
	// without a gateway, as the routes of the main table that are not ours say;
	// sorted, without default routes and link-local ones.
	OnLink []netip.Prefix
}
