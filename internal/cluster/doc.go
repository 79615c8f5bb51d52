// Package cluster holds the facts that the hosts of one ovl cluster share:
// Host, Network, Lease, Endpoint, Session, and the Snapshot of all of them.
//
// It is values only: it must never do I/O, keep time or log, and it imports
// nothing but the standard library. The invariant it keeps is that a
// [Snapshot] is immutable and sorted, so that the same facts are the same
// value in whatever order they arrived.
package cluster
