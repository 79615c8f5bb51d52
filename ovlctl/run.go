package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/ovlnet/ovl/internal/sandbox"
)

const runLong = `Makes a sandbox, the smallest container there is: a network namespace with its
own hostname, /etc/hosts and /etc/resolv.conf, attached to networks, and the
command in it. Without a command it just stays.

In the foreground run ends with the exit code of the command, and the sandbox
stays until ovlctl rm, unless --rm says otherwise. With -d, and without a
command, run prints the sandbox's name and ends.

--network names a network, several times for several of them; none; host, for the
host's own; or container:OTHER, for that of another container. See also ovlctl
connect and disconnect.

The namespace is an ordinary named one: ip netns exec NAME works on it.`

const runExample = `  ovlctl run --name web --network blue
  ovlctl run -d --name web --network blue -- python3 -m http.server 80
  ovlctl run -d --name tap --network container:web -- tcpdump -ni eth0
  ovlctl run --rm --name probe --network blue --network red -- ping -c 3 10.64.3.2`

func newRunCommand(o *options) *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use:               "run [-d] --name NAME --network NETWORK [flags] [-- COMMAND...]",
		Short:             "Make a sandbox on networks and run a command in it",
		Long:              runLong,
		Example:           runExample,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, args []string) error {
			spec, err := f.spec(args)
			if err != nil {
				return err
			}
			return o.run(c.Context(), spec)
		},
	}
	f.register(c, o)
	return c
}

// run makes the sandbox and, in the foreground, waits for its command.
func (o *options) run(ctx context.Context, spec runSpec) error {
	p, err := o.launch(ctx, spec)
	if err != nil {
		return fmt.Errorf("run sandbox %s: %w", spec.name, err)
	}
	if p == nil || spec.detach {
		fmt.Fprintln(o.stdout, spec.name)
		return nil
	}
	code, err := o.attend(p)
	if err != nil {
		return err
	}
	if spec.remove {
		// Interrupted or not, what was promised to go away must go.
		if err := o.remove(context.WithoutCancel(ctx), spec.name, false); err != nil {
			return err
		}
	}
	if code != 0 {
		return silentError(code)
	}
	return nil
}

// launch makes the sandbox and starts its command; p is nil if it has none.
// After an error nothing is left of it.
func (o *options) launch(ctx context.Context, spec runSpec) (p *sandbox.Process, err error) {
	if os.Geteuid() != 0 {
		return nil, codef(exitFailed, "not root: making namespaces needs it; try sudo")
	}
	s, err := o.paths.Sandbox(spec.name)
	if err != nil {
		return nil, usagef("--name: %w", err)
	}
	cl, err := o.dialAgent()
	if err != nil {
		return nil, err
	}
	defer cl.close()
	ctx, cancel := o.deadline(ctx)
	defer cancel()
	l := launcher{o: o, spec: spec, sandbox: s, agent: cl}
	if err := l.check(ctx); err != nil {
		return nil, err
	}
	p, err = l.make(ctx)
	if err != nil {
		return nil, errors.Join(err, l.undo(ctx))
	}
	return p, nil
}
