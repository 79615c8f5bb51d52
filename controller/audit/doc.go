// Package audit records what is done to the cluster: who, from where, what,
// before and after, and with which outcome. Each controller appends to a log of
// its own, which is the record; the newest events of all of them lie in the
// store as well, where ovlctl events finds them.
//
// It must never record a secret, hold a call up because the store is away, or
// let anybody fill a disk, the store or its memory. Its invariant: a call that
// changed something, or was refused, is on disk before it is answered, unless
// the log cannot be written, which is a problem of the controller's status.
package audit
