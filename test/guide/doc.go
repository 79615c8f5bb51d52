// Package guide types what the guides say, and compares what comes out with
// what they show: a guide that is wrong is a test that fails.
//
// In a guide a block ```console is a session. A line "h1# COMMAND" is typed in a
// root shell on host h1 of the lab that the guide itself has made with "$ ovlctl
// lab up"; "$ COMMAND" is typed on this machine, in the root of the tree, with
// the binaries in PATH. A backslash at the end goes on with the next line. Each
// host has one shell, which keeps its variables and its background jobs. What
// follows up to the next prompt is all that the command prints, spaces aside;
// "…" in it stands for anything, and in a line of its own for any lines. It must
// succeed, unless the last line shown says "(exit code N)".
//
// A comment in the line before a block speaks to the test:
//
//	<!-- guide: soon -->            each command is repeated until it prints what is shown: another host hears of it a moment later
//	<!-- guide: root: WHY -->       it is run only in a lab that root made
//	<!-- guide: not run: WHY -->    a block of commands (```sh) that a test cannot run
//
// A guide whose first line is
//
//	<!-- guide: needs runtimes -->
//
// is left out of `make test`, since it takes programs that only another target
// installs: `make test-runtimes` runs those guides, by OVL_GUIDES=runtimes.
//
// A block ```sh without that reason is an error, so that no command is left out
// in silence. With -update the test writes into the guide what came out instead.
//
// It must never run a command that no guide shows. Its invariant: all that it
// starts is in namespaces of its own and ends with it.
package guide
