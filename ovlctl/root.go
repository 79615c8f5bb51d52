package main

import (
	"github.com/spf13/cobra"
)

const rootLong = `ovlctl makes and shows the private networks of containers on many hosts.

What belongs to the cluster it asks a controller (--controller), what belongs
to this host it asks the host's agent (--socket).

Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 conflict, 5 unhealthy,
6 timeout or unreachable.`

const rootExample = `  ovlctl network create blue --subnet 10.64.0.0/16
  ovlctl run -d --name web --network blue -- python3 -m http.server
  ovlctl exec web -- ip address
  ovlctl status`

// The groups of commands in the help.
const (
	groupCluster = "cluster"
	groupLocal   = "local"
	groupOther   = "other"
)

func newRootCommand(o *options) *cobra.Command {
	root := &cobra.Command{
		Use:               "ovlctl",
		Short:             "Private networks for containers on many hosts",
		Long:              rootLong,
		Example:           rootExample,
		Args:              noSuchCommand,
		RunE:              func(c *cobra.Command, _ []string) error { return c.Help() },
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRunE: func(*cobra.Command, []string) error { return o.resolve() },
	}
	root.SetIn(o.stdin)
	root.SetOut(o.stdout)
	root.SetErr(o.stderr)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usagef("%s: %w; see %s --help", commandName(c), err, c.CommandPath())
	})
	root.AddGroup(
		&cobra.Group{ID: groupCluster, Title: "The cluster:"},
		&cobra.Group{ID: groupLocal, Title: "This host:"},
		&cobra.Group{ID: groupOther, Title: "Other:"},
	)
	addRootFlags(root, o)
	addCommands(root, groupCluster,
		newNetworkCommand(o), newHostCommand(o), newSubnetCommand(o), newEndpointCommand(o), newStatusCommand(o), newEventsCommand(o),
		newTokenCommand(o), newMemberCommand(o), newCACommand(o), newLoginCommand(o), newWhoamiCommand(o))
	addCommands(root, groupLocal,
		newRunCommand(o), newExecCommand(o), newPsCommand(o), newLogsCommand(o), newRmCommand(o),
		newAttachCommand(o), newDetachCommand(o), newConnectCommand(o), newDisconnectCommand(o),
		newAgentCommand(o), newWhoisCommand(o))
	addCommands(root, groupOther, newVersionCommand(o), newContextCommand(o))
	addCommands(root, groupOther, newLabCommand(o))
	root.AddCommand(newDocsCommand())
	root.SetHelpCommandGroupID(groupOther)
	root.SetCompletionCommandGroupID(groupOther)
	return root
}

func addRootFlags(root *cobra.Command, o *options) {
	f := root.PersistentFlags()
	f.StringVar(&o.controller, "controller", "", "address of a controller, HOST:PORT (OVL_CONTROLLER; "+defaultController+")")
	f.StringVar(&o.socket, "socket", "", "unix socket of this host's agent (OVL_SOCKET; "+defaultSocket+")")
	f.StringVar(&o.config, "config", "", "configuration file with contexts (OVL_CONFIG; ~/.config/ovl/config.yaml)")
	f.StringVar(&o.context, "context", "", "context of the configuration file to use (OVL_CONTEXT)")
	f.StringVar(&o.ca, "ca", "", "CA of the controller, in PEM (OVL_CA)")
	f.StringVar(&o.cert, "cert", "", "own certificate, in PEM (OVL_CERT)")
	f.StringVar(&o.key, "key", "", "key of that certificate (OVL_KEY; in the same file)")
	f.BoolVar(&o.plaintext, "insecure-plaintext", false, "speak plain text with a controller that does; on loopback addresses only")
	f.DurationVar(&o.timeout, "timeout", defaultTimeout, "give up after this long")
	f.StringVarP(&o.output, "output", "o", formatTable, "table, wide, json, yaml or name")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask before destroying")
	fixed(root, "output", formatTable, formatWide, formatJSON, formatYAML, formatName)
	completeFlag(root, "context", func(c *cobra.Command) ([]string, error) { return o.contextNames() })
}

func addCommands(root *cobra.Command, group string, commands ...*cobra.Command) {
	for _, c := range commands {
		c.GroupID = group
		root.AddCommand(c)
	}
}

// newNounCommand is a command that only holds others, such as "network".
func newNounCommand(use, short string, aliases []string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use:     use,
		Short:   short,
		Aliases: aliases,
		Args:    noSuchCommand,
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(commands...)
	return c
}

func noSuchCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if !c.HasParent() {
		return usagef("no command %q; see %s --help", args[0], c.CommandPath())
	}
	return usagef("%s: no command %q; see %s --help", commandName(c), args[0], c.CommandPath())
}
