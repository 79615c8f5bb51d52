package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"time"

	"github.com/spf13/cobra"

	"github.com/ovlnet/ovl/internal/identity"
	"github.com/ovlnet/ovl/internal/settings"
	"github.com/ovlnet/ovl/node-agent/lease"
	"github.com/ovlnet/ovl/node-agent/member"
)

// joinTimeout bounds the join, in which a person waits.
const joinTimeout = 30 * time.Second

// defaultPort is that of controllers.
const defaultPort = "6790"

func newJoinCommand(o *options) *cobra.Command {
	var token string
	var noStart bool
	c := &cobra.Command{
		Use:   "join",
		Short: "make this host a member of a cluster, and start the agent",
		Long: `join makes this host a member of a cluster: it compares the controller's CA with the
token's fingerprint, proves that it has a key of its own, and stores the certificate
that it gets, the CA and the addresses of the cluster in --state-dir/identity. From
then on "ovl-agent" needs no flags. A host that has joined already spends no token.

Then the agent starts: as the systemd service ovl-agent where there is one, else in
the foreground.`,
		Example: `  ovl-agent join --controller 10.0.0.1:6790 --token ovl1-…
  ovl-agent join --controller 10.0.0.1 --token - --no-start <token`,
		Args: settings.UsageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			m, err := join(cmd.Context(), o, token, cmd.InOrStdin())
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "joined as %s; etcd at %v\n", m.Cluster.Name, m.Cluster.Etcd)
			return start(cmd, o, noStart)
		},
	}
	o.bindRun(c.Flags())
	c.Flags().StringVar(&token, "token", "", "token of an admin (ovlctl token create); - reads it from stdin")
	c.Flags().BoolVar(&noStart, "no-start", false, "only join, and say what to do next")
	return c
}

func join(ctx context.Context, o *options, token string, stdin io.Reader) (*member.Member, error) {
	name, err := o.host()
	if err != nil {
		return nil, err
	}
	if len(o.controllers) != 1 {
		return nil, settings.Usage(errors.New("--controller: want one, such as 10.0.0.1:6790"))
	}
	if _, _, err := net.SplitHostPort(o.controllers[0]); err != nil {
		o.controllers[0] = net.JoinHostPort(o.controllers[0], defaultPort)
	}
	t, err := readToken(token, stdin)
	if err != nil {
		return nil, settings.Usage(fmt.Errorf("--token: %w", err))
	}
	if err := os.MkdirAll(o.stateDir, 0o700); err != nil {
		return nil, fmt.Errorf("join: %w: run as root, or choose another --state-dir", err)
	}
	id, err := lease.LoadHostID(o.stateDir)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	return member.Join(ctx, member.Config{
		Dir: o.identityDir(), Host: id, Name: name, Controller: o.controllers[0], Token: t, Now: time.Now,
	})
}

// readToken returns the token that was given, or the one on stdin.
func readToken(text string, stdin io.Reader) (identity.Token, error) {
	if text == "-" {
		b, err := io.ReadAll(io.LimitReader(stdin, 1<<10))
		if err != nil {
			return identity.Token{}, err
		}
		text = string(b)
	}
	if text == "" {
		return identity.Token{}, errors.New("missing: an admin makes one with ovlctl token create")
	}
	return identity.ParseToken(text)
}

// start starts the agent of a host that has joined.
func start(cmd *cobra.Command, o *options, noStart bool) error {
	service := hasService(cmd.Context())
	switch {
	case noStart && service:
		fmt.Fprintln(cmd.ErrOrStderr(), "start the agent with: systemctl enable --now ovl-agent")
		return nil
	case noStart:
		fmt.Fprintln(cmd.ErrOrStderr(), "start the agent with: ovl-agent")
		return nil
	case service:
		// One that runs already has connections with the certificate of before.
		if err := systemctl(cmd.Context(), "enable", "ovl-agent.service"); err != nil {
			return err
		}
		return systemctl(cmd.Context(), "restart", "ovl-agent.service")
	}
	return serve(cmd.Context(), o)
}

// hasService reports whether systemd runs this machine, knows the agent, and is
// not what runs this very process.
func hasService(ctx context.Context) bool {
	if _, err := os.Stat("/run/systemd/system"); err != nil || os.Getenv("NOTIFY_SOCKET") != "" {
		return false
	}
	return systemctl(ctx, "cat", "ovl-agent.service") == nil
}

func systemctl(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, "systemctl", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("systemctl %s: %w: %.200s", args[0], err, out)
	}
	return nil
}
