// Package rotation is how one CA of the cluster follows another while everything
// goes on: which CAs are in force, as a fact of the store that all controllers
// read; who has followed; and the steps from one phase to the next.
//
// It must never trust a CA whose key this controller does not have, nor take one
// out of force by itself. Its invariant: each step is one transaction that
// compares the record of the CAs, so that controllers which stop, start or race
// at any point agree.
package rotation
