// Package identity is who is who in a cluster: certificates that say one thing
// about their holder, the authority that issues them, how they are verified,
// the text of a token with which a host joins, and the files that hold keys.
//
// It must never open a connection, ask a store or decide what somebody may do.
// It uses the standard library's cryptography alone. Its invariant: whatever
// comes from outside (PEM, DER, requests, tokens) is bounded before it is
// parsed, and what [Verify] returns is exactly what one certificate, issued by
// a trusted authority and valid now, says.
package identity
