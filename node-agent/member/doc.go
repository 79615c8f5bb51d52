// Package member is a host's side of the cluster's identity: how it joins with a
// token, what it keeps on disk of that, and how its certificate is renewed.
//
// It must never send a token to anybody who has not shown the CA that the token
// names, nor write a key where others can read it. Its invariant: a directory
// with a certificate in it is that of a host that has joined, whole, whatever
// crashed while it did.
package member
