// Package kernel carries rows of package dataplane to Linux and back, over
// rtnetlink(7), iptables-save(8) and iptables-restore(8), sysctl files and
// namespaces. It is the only package that speaks any of these.
//
// It must never touch what is not ours (see dataplane.OwnsLink,
// dataplane.RouteProtocol and dataplane.ChainPrefix), never run a shell and
// never hold a container's namespace alive. Its invariants: an observation is
// all of ours or an error, never a part; and a row that was written reads back
// equal to itself.
//
// What the libraries do for it and what it does itself, and why, is in
// docs/design/kernel.md.
package kernel
