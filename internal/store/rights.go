package store

import "github.com/ovlnet/ovl/internal/cluster"

// Readable are the prefixes and keys of what hosts may read: the cluster's facts, no
// tokens and no members. Each call returns a new list.
func Readable() []string {
	return []string{
		NetworksPrefix, VNIsPrefix, HostsPrefix, DrainsPrefix, SessionsPrefix, ClonesPrefix,
		subnetsRoot, endpointsRoot, CertificatesPrefix, CAKey,
	}
}

// Shared are the prefixes below which all hosts write: their keys do not name the
// host first, and their signatures say whose a record is.
func Shared() []string { return []string{subnetsRoot, endpointsRoot} }

// Own returns what a host alone writes: keys, and a prefix, which ends in a slash.
func Own(id cluster.HostID) []string {
	return []string{HostKey(id), SessionKey(id), HostClonesPrefix(id)}
}
