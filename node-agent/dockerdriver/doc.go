// Package dockerdriver lets a container engine of Docker's kind use the networks of
// the cluster as its own: it answers libnetwork's remote network driver and IPAM
// driver on one unix socket, and keeps the book of which of the engine's networks is
// which of the cluster's.
//
// A call of the engine becomes a change of an attachment (package attach), and the
// plan makes the rows of that: nothing here touches the kernel. The engine's own API
// must never be asked while a call of the engine is being answered: it stores a
// network or an endpoint only when the call has returned, and holds locks until then.
// The invariant: whatever the engine leaves half-done, or forgets, leaves nothing for
// ever. What the engine sends is bounded, typed and fuzzed.
package dockerdriver
