// Package storetest is what every store must do: one suite that store/mem and
// a real etcd both pass, so that tests over the first say something about the
// second.
//
// It must never look behind [store.KV] but through a [Harness]. The invariant it
// keeps is that a test here holds for any correct implementation, however late
// its events come: nothing is asserted about how long something takes.
package storetest
