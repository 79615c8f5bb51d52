// Package resolver answers the questions of this host's containers about names:
// those of the networks that a container is on from the facts of the cluster,
// all others by asking the host's own resolvers.
//
// What a name means is pure: [Build] makes a [Zone] of a network and its
// endpoints, [Compile] makes of all zones the [Names] of a host, and
// [View.Answer] answers a message from what the asker may see. The rest carries
// messages: sockets on each network's gateway, and a forwarder with a cache.
//
// It must never need the store to answer, tell a container the name or address
// of one that it shares no network with, or forward what is ours: a name of a
// network, a reverse name of its addresses, a name of one label. Its invariant
// is that after [Resolver.Sync] every gateway of this host is listened on and
// answers from the newest facts.
package resolver
