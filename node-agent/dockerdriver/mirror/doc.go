// Package mirror keeps the networks of this host's container engine what those of
// the cluster are, and the other way round, and learns what containers are called.
//
//	want = the cluster's networks
//	have = the engine's networks
//	ops  = Diff(want, have)        pure
//
// again whenever the cluster's networks change, the engine says that its own did, or
// the engine comes back. Events only wake, but for one: that a network was removed is
// nowhere to be seen afterwards.
//
// It must never touch a network of another driver, remove one from the cluster that
// was not made by way of an engine, or ask the engine anything from within one of its
// own calls. Its invariant: after a pass that met no error, each network of the
// cluster is one of the engine's, or a problem says why not.
package mirror
