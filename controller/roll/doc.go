// Package roll is who is in: the members of the cluster with the keys of their
// certificates, and the tokens that let further ones in, as records in the
// store; and the copy of the members that every call is checked against.
//
// It must never issue a certificate or decide what a member may do. Its
// invariant: whom the store does not name is no member, at the latest a moment
// after the record went away.
package roll
