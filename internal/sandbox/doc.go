// Package sandbox is the smallest container there is: a named network
// namespace, its own hosts, resolv.conf and hostname, and a command in it. No
// image, no limits, no process namespace.
//
// It must never make or change a link, an address or a route, except that it
// brings the loopback up: those are the agent's. It must never signal a
// process that it cannot prove to be the sandbox's: a PID counts only together
// with the start time of its process.
//
// Its invariant: a sandbox is all there or not at all. The namespace is an
// ordinary named one (ip-netns(8)), so ip netns exec works on it, and what ip
// netns exec shows a command is what [Enter] shows it.
package sandbox
