// Package api serves the cluster to people and programs: the gRPC services of
// proto/ovl/v1/{network,cluster}.proto over the facts in the store.
//
// It must never keep a fact of its own: every answer is one ranged read and
// every change one transaction that compares, so that any number of controllers
// may share a store without a leader. It never touches a kernel. The invariant
// it keeps is that no two networks ever have one VNI or overlapping subnets,
// whichever controllers admitted them.
package api
