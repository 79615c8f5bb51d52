// Package keys is the controller's own part of the cluster's identity: the CA,
// made at the first start unless it is given, the one that the cluster changes to
// when it does, the certificate with which this
// controller serves, and that of the admin of this machine with the context
// that lets ovlctl find it.
//
// It must never let a key be read by others than the owner of the data
// directory, nor trust a CA whose key is
// not here. Its invariant: at any moment each file in the
// directory is whole, and a certificate beside its own key.
package keys
