// Package etcd is the store in an etcd cluster.
//
// It must never hand on an error as text to be guessed at, nor wait without a
// deadline: every call has one of its own, and every error is one of the
// contract's or says why it is none. The invariant it keeps is that what
// internal/store/storetest demands of a store, a real etcd behind this package
// does.
package etcd
