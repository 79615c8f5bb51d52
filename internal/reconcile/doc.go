// Package reconcile runs one pass over a [Kernel]: observe what a scope names,
// diff it against what is wanted, apply the operations one by one, and tell the
// outcome of each row that is not done. It keeps back-off per row, holds back
// what depends on a failed row, and finds the rows that somebody else keeps
// undoing.
//
// It must never plan, and never speak to Linux but through [Kernel]. Its
// invariant: a failure of one row delays no row that does not require it.
package reconcile
