package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/ovlnet/ovl/internal/sandbox"
)

func newExecCommand(o *options) *cobra.Command {
	c := &cobra.Command{
		Use:   "exec NAME -- COMMAND...",
		Short: "Run a command in a sandbox",
		Long: `Runs a command in a sandbox: its network, hostname, /etc/hosts and
/etc/resolv.conf. exec becomes the command, so the exit code is the command's:
127 if there is no such command, 126 if it cannot be executed.`,
		Example: `  ovlctl exec web -- ping -c 1 db
  ovlctl exec web -- sh`,
		ValidArgsFunction: o.completeOne(sandboxNames),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 1 && args[1] == "--" { // flags end at NAME, so it is still there
				args = append(args[:1:1], args[2:]...)
			}
			if err := atLeastTwo(c, args); err != nil {
				return err
			}
			return o.exec(args[0], args[1:])
		},
	}
	c.Flags().SetInterspersed(false)
	return c
}

func atLeastTwo(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return exactly("NAME", "COMMAND")(c, args)
	}
	return exactly("NAME", "COMMAND")(c, args[:min(len(args), 2)])
}

// exec returns only with an error: else the process is the command.
func (o *options) exec(name string, argv []string) error {
	s, err := o.paths.Sandbox(name)
	if err != nil {
		return usagef("exec: %w", err)
	}
	if !s.Exists() {
		return codef(exitNotFound, "exec in sandbox %s: there is none on this host; see ovlctl ps", name)
	}
	if os.Geteuid() != 0 {
		return codef(exitFailed, "exec in sandbox %s: not root: entering namespaces needs it; try sudo", name)
	}
	if err := s.Enter(); err != nil {
		return commandError(err)
	}
	return commandError(sandbox.Exec(argv))
}
