// Package dataplane is the vocabulary of kernel state: tables of comparable
// rows, keyed as the kernel keys them, the pure [Diff] between two [State]s,
// the [Op]s that lead from one to the other, and how all of these print.
//
// It must never do I/O and knows no netlink type, link index or namespace
// handle: rows name things by name, address and path. Its invariant is that
// what is wanted and what is there are the same type, so that comparing them
// is the whole of reconciliation.
package dataplane
