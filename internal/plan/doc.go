// Package plan turns facts into rows: what the kernel of one host should hold,
// as a pure function of a cluster's snapshot and the host's own facts. One file
// per feature.
//
// It must never do I/O, keep time, log, or know a link index or a netlink type.
// What it cannot plan it returns as a problem. The invariant it keeps: the same
// facts give the same rows, in whatever order they came.
package plan
