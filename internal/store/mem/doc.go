// Package mem is a store in memory that behaves as etcd does: one revision per
// transaction, history until it is compacted, leases that end by the clock and
// take their keys with them in one revision, watches that resume.
//
// It is for tests and simulations; it must never be kinder than etcd, and the
// suite in internal/store/storetest holds both to one behaviour. It keeps time
// by package time alone, so that it works in a testing/synctest bubble. The
// invariant it keeps is that the history between the last compaction and now,
// replayed on the state at the compaction, is the state now.
package mem
