// Package lab runs several hosts on one machine: each is a network, mount and
// UTS namespace on a private underlay bridge, with the binaries of production
// in it. The demo, the integration and fault tests, the benchmarks and `ovlctl
// lab` all stand on it.
//
// A lab is one process tree. Its root, the keeper, is process 1 of a PID
// namespace of the lab's own: when it ends, the kernel ends everything in the
// lab, and with the last process go the namespaces and all that is in them.
// [Lab.Down], a crash and a kill are therefore the same thing, and what is
// left is one small directory that says where the lab was.
//
// The room must never touch the namespaces that it was started in: not their
// links, not their mounts, not their sysctls. Its invariant: after [Lab.Down]
// the machine is as it was before [Up].
package lab
