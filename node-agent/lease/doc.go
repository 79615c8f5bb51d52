// Package lease holds this host's place in the cluster: its ID, its session,
// and the subnets that it owns, fenced.
//
// Two leases of the store carry everything. The session lease (seconds) says
// that the agent is up now; the ownership lease (a day) says whose subnets are
// whose. A [Keeper] keeps both alive and keeps the host's own records in the
// store as they should be, whoever deletes or alters them.
//
// It must never make a store lease per subnet or per container, never write a
// record without comparing the revision that it read, and never touch the
// kernel: what the host forwards does not depend on it.
//
// The invariant: a subnet in state [StateHeld] is in the store, under this
// host's ID and its live ownership lease, and no other host can have it. A host
// that could not renew for the whole ownership time, by a clock that counts
// suspend, holds nothing until the store has confirmed it again.
package lease
