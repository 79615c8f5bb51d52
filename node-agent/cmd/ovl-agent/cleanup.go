package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/kernel"
	"github.com/ovlnet/ovl/internal/reconcile"
	"github.com/ovlnet/ovl/internal/settings"
	"github.com/ovlnet/ovl/node-agent/attach"
	"github.com/ovlnet/ovl/node-agent/conflist"
)

func newCleanupCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "cleanup",
		Short: "remove all of ovl's state from the kernel of this host",
		Long: `cleanup removes every link, address, route, neighbour, forwarding entry and
firewall chain of ovl from this host, and its tables of nf_tables. It is a plan that wants nothing: what is not
ovl's is not seen, so not touched. Sysctls stay as they are.

The agent must be stopped. The host's identity, subnets and attachments stay on
disk: an agent that starts again puts everything back. To forget them too, remove
the state directory afterwards and "ovlctl host rm" the host.

With --cni-conf-dir it first takes away what the agent wrote there, so that container
runtimes ask ovl no more.`,
		Example: "  systemctl stop ovl-agent && ovl-agent cleanup",
		Args:    settings.UsageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := cleanup(cmd.Context(), o)
			if err == nil {
				_, err = fmt.Fprintf(cmd.ErrOrStderr(), "removed %d rows\n", n)
			}
			return err
		},
	}
}

// cleanup applies an empty plan and returns how many operations that took.
func cleanup(ctx context.Context, o *options) (int, error) {
	if o.cniDir != "" {
		if err := conflist.Remove(o.cniDir); err != nil {
			return 0, err
		}
	}
	namespaces, err := attachedNamespaces(o.stateDir)
	if err != nil {
		return 0, err
	}
	linux, err := kernel.New(kernel.Config{Log: slog.New(slog.DiscardHandler), Sysctls: o.sysctlDir})
	if err != nil {
		return 0, err
	}
	defer linux.Close() // nothing is buffered
	rec := reconcile.New(linux)
	if _, err := rec.Observe(ctx, dataplane.FullScope(namespaces...)); err != nil {
		return 0, fmt.Errorf("read kernel state: %w", err)
	}
	rep := rec.Apply(ctx, dataplane.State{}, time.Now)
	if rep.Err != nil {
		return rep.Applied, rep.Err
	}
	return rep.Applied, rep.Failure(func(dataplane.Row) bool { return true })
}

// attachedNamespaces returns the namespaces that hold ends of our veths. Without
// a state directory there are none that we know of; deleting the hosts' ends
// empties those too.
func attachedNamespaces(dir string) ([]dataplane.NS, error) {
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	db, _, err := openState(dir)
	if err != nil {
		return nil, err
	}
	defer db.Close() // only read
	journal, err := attach.OpenJournal(db)
	if err != nil {
		return nil, err
	}
	var out []dataplane.NS
	for _, att := range journal.List() {
		if att.NetNS != "" {
			out = append(out, dataplane.NSOf(att))
		}
	}
	return out, nil
}
