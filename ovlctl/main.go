// Command ovlctl is what people type. It asks a controller about the cluster
// and this host's agent about what is local, prints what they say, and runs
// sandboxes; see docs/ovlctl.md.
//
// It must never touch the kernel's network state: that is the agent's. Its
// invariants: data goes to stdout and words to stderr, an error is one line,
// and the exit code tells the kind of failure (see [exitCode]).
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/ovlnet/ovl/internal/sandbox"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == sandbox.InitCommand { // run started us in the sandbox
		sandbox.Init(os.Args[2:])
		os.Exit(exitFailed)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	code := execute(ctx, newOptions(), os.Args[1:])
	stop()
	os.Exit(code)
}

// execute runs one command line and returns the exit code. Whatever failed has
// been said on o.stderr.
func execute(ctx context.Context, o *options, args []string) int {
	root := newRootCommand(o) //nolint:contextcheck // commands get the context when they run
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	sayError(o.stderr, err)
	return exitCode(err)
}
