// Package attach holds this host's attachments: which container is on which
// network, with which address. It keeps them in a journal on disk, chooses
// their addresses, and answers runtimes and people on the agent's unix socket.
//
// It must never touch the kernel: it writes the journal, wakes the loop and
// waits for a report, so that there is no second code path that makes a veth.
// Its invariant: a change is on disk before the loop or anybody else sees it,
// and an address is free for another only when the rows of the attachment that
// had it have been taken away.
package attach
