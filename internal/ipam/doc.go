// Package ipam chooses: a subnet of a network's pool for a host, an address of
// a subnet for a container, a pool for a network.
//
// It is pure: it must never do I/O or keep state; what is taken is an argument.
// The invariant it keeps is that what it returns is free of all that it was
// told is taken.
package ipam
