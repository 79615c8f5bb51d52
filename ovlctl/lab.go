package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ovlnet/ovl/internal/lab"
)

const labLong = `A lab is several hosts on this machine: namespaces on a private underlay, each
with the ovl-agent and one with the ovl-controller found beside ovlctl. It needs
root, or a kernel that allows user namespaces, and touches nothing else here.

Its hosts are h1, h2, …; "control", which runs the controller and its etcd; and
"outside", a stranger on the underlay.`

const labExample = `  ovlctl lab up
  ovlctl lab exec h1 -- ovlctl run -d --name web --network blue
  ovlctl lab kill h1 && ovlctl lab start h1
  ovlctl lab down`

const defaultLab = "lab"

func newLabCommand(o *options) *cobra.Command {
	c := newNounCommand("lab", "Several hosts on this machine, to play and to test with", nil,
		newLabUp(o), newLabList(o), newLabExec(),
		newLabAct(o, "start", "Start what runs on a host", (*lab.Lab).Start),
		newLabAct(o, "stop", "Stop what runs on a host, gracefully", (*lab.Lab).Stop),
		newLabAct(o, "kill", "Kill what runs on a host, with SIGKILL", (*lab.Lab).Kill),
		newLabCut(o, "cut", "Unplug a host from the underlay, or from etcd alone", (*lab.Lab).Cut),
		newLabCut(o, "mend", "Plug a host in again", (*lab.Lab).Mend),
		newLabDown(o), newLabEcho(), newLabAsk(o),
		newLabProcess(lab.KeeperCommand, lab.Keep), newLabProcess(lab.HostCommand, lab.HoldHost))
	c.Long, c.Example = labLong, labExample
	return c
}

func newLabUp(o *options) *cobra.Command {
	var cfg lab.Config
	c := &cobra.Command{
		Use:               "up",
		Short:             "Make a lab and wait until all its hosts are ready",
		Example:           "  ovlctl lab up --hosts 5 --name wide --underlay-mtu 9000",
		Args:              exactly(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			// The daemons share this machine's processors: more hosts, more time.
			cfg.Steady = true // what a guide shows is what people see
			cfg.Ready = defaultTimeout + time.Duration(cfg.Hosts)*time.Second
			if changed(c, "timeout") {
				cfg.Ready = o.timeout
			}
			ctx, cancel := context.WithTimeout(c.Context(), cfg.Ready+time.Second)
			defer cancel()
			began := o.now()
			l, err := lab.Up(ctx, cfg, func(doing string) { o.say("%s …", doing) })
			if err != nil {
				return labError(err)
			}
			o.say("Lab %s is up after %.1f s.", l.Name(), o.now().Sub(began).Seconds())
			o.say("%s", labHints(l))
			return nil
		},
	}
	f := c.Flags()
	f.IntVar(&cfg.Hosts, "hosts", 3, "how many hosts, besides control and outside")
	f.StringVar(&cfg.Name, "name", defaultLab, "name of the lab")
	f.IntVar(&cfg.MTU, "underlay-mtu", 1500, "MTU of the underlay, in bytes")
	f.BoolVar(&cfg.IPv6, "ipv6", false, "give the underlay IPv6 addresses")
	f.BoolVar(&cfg.Bare, "bare", false, "hosts only: start no controller and no agents")
	f.BoolVar(&cfg.Idle, "no-agents", false, "start no agents; see lab start")
	f.StringVar(&cfg.BinDir, "bin-dir", "", "directory of the binaries (that of ovlctl)")
	return c
}

// labHints says what to try next.
func labHints(l *lab.Lab) string {
	name := ""
	if l.Name() != defaultLab {
		name = " --name " + l.Name()
	}
	if l.Config().Bare {
		return fmt.Sprintf("Try:\n  ovlctl lab exec%s h1 -- ip address\n  ovlctl lab down%s", name, name)
	}
	return strings.ReplaceAll(`Try:
  ovlctl lab exec@ h1 -- ovlctl network create blue --subnet 10.64.0.0/16
  ovlctl lab exec@ h1 -- ovlctl run -d --name web --network blue
  ovlctl lab exec@ h2 -- ovlctl run --name try --network blue -- ip address
  ovlctl lab exec@ h1 -- ovlctl status
  ovlctl lab down@`, "@", name)
}

func newLabList(o *options) *cobra.Command {
	return &cobra.Command{
		Use:               "ls",
		Aliases:           []string{"list"},
		Short:             "List labs and their hosts",
		Example:           "  ovlctl lab ls -o json",
		Args:              exactly(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cancel := o.deadline(c.Context())
			defer cancel()
			shown, err := showLabs(ctx)
			if err != nil {
				return labError(err)
			}
			return printLabs(o, shown)
		},
	}
}

func newLabExec() *cobra.Command {
	var name string
	c := &cobra.Command{
		Use:     "exec HOST -- COMMAND …",
		Short:   "Run a command on a host of a lab",
		Long:    "Runs a command on a host of a lab, with its exit code. There ip, bridge and\niptables show that host, and ovlctl talks to its agent and to the lab's controller.",
		Example: "  ovlctl lab exec h1 -- ip route\n  ovlctl lab exec h2 -- bash",
		Args: func(c *cobra.Command, args []string) error {
			if len(labCommand(args)) == 0 {
				return usagef("%s: want HOST -- COMMAND; see %s --help", c.CommandPath(), c.CommandPath())
			}
			return nil
		},
		ValidArgsFunction: completeLabHost(&name),
		RunE: func(_ *cobra.Command, args []string) error {
			l, err := lab.Open("", name)
			if err != nil {
				return labError(err)
			}
			return labError(l.Enter(args[0], labCommand(args)...))
		},
	}
	c.Flags().SetInterspersed(false) // what follows HOST is the command's
	labNameFlag(c, &name)
	return c
}

// labCommand returns the command of HOST [--] COMMAND …. The flags end with
// HOST, so a -- behind it is still there.
func labCommand(args []string) []string {
	if len(args) == 0 {
		return nil
	}
	if command := args[1:]; len(command) == 0 || command[0] != "--" {
		return command
	}
	return args[2:]
}

// newLabAct is start, stop or kill.
func newLabAct(o *options, verb, short string, act func(*lab.Lab, context.Context, string, string) error) *cobra.Command {
	var name string
	c := &cobra.Command{
		Use:   verb + " HOST [agent|controller|etcd]",
		Short: short,
		Long: short + ", and waits until that is done. Without a second argument that is\n" +
			"the agent of h1, h2, …, and the controller of control. The etcd of a lab is\nembedded in the controller: the two start and stop together.",
		Example: fmt.Sprintf("  ovlctl lab %s h1\n  ovlctl lab %s control etcd", verb, verb),
		Args: func(c *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return usagef("%s: want HOST [agent|controller|etcd]; see %s --help", c.CommandPath(), c.CommandPath())
			}
			return nil
		},
		ValidArgsFunction: completeLabHost(&name),
		RunE: func(c *cobra.Command, args []string) error {
			return withLab(o, c, name, func(ctx context.Context, l *lab.Lab) error {
				return act(l, ctx, args[0], strings.Join(args[1:], ""))
			})
		},
	}
	labNameFlag(c, &name)
	return c
}

func newLabCut(o *options, verb, short string, cut func(*lab.Lab, context.Context, string, bool) error) *cobra.Command {
	var (
		name     string
		fromEtcd bool
	)
	c := &cobra.Command{
		Use:               verb + " HOST",
		Short:             short,
		Example:           fmt.Sprintf("  ovlctl lab %s h2\n  ovlctl lab %s h2 --from-etcd", verb, verb),
		Args:              exactly("HOST"),
		ValidArgsFunction: completeLabHost(&name),
		RunE: func(c *cobra.Command, args []string) error {
			return withLab(o, c, name, func(ctx context.Context, l *lab.Lab) error {
				return cut(l, ctx, args[0], fromEtcd)
			})
		},
	}
	c.Flags().BoolVar(&fromEtcd, "from-etcd", false, "only what is between it and etcd")
	labNameFlag(c, &name)
	return c
}

func newLabDown(o *options) *cobra.Command {
	var name string
	c := &cobra.Command{
		Use:               "down",
		Short:             "End a lab; nothing of it stays behind, also after a crash",
		Example:           "  ovlctl lab down --name wide",
		Args:              exactly(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			return withLab(o, c, name, func(ctx context.Context, l *lab.Lab) error { return l.Down(ctx) })
		},
	}
	labNameFlag(c, &name)
	return c
}

// newLabEcho and newLabAsk show whose address a connection comes from.
func newLabEcho() *cobra.Command {
	return &cobra.Command{
		Use:               "echo [ADDRESS]:PORT",
		Short:             "Answer each TCP connection and UDP datagram with the address that it comes from",
		Example:           "  ovlctl run -d --name echo --network blue -- ovlctl lab echo :7777",
		Args:              exactly("[ADDRESS]:PORT"),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(c *cobra.Command, args []string) error { return lab.ServeEcho(c.Context(), args[0]) },
	}
}

func newLabAsk(o *options) *cobra.Command {
	var udp bool
	c := &cobra.Command{
		Use:               "ask HOST:PORT",
		Short:             "Ask an echo which address it sees; outside has one on port " + strconv.Itoa(lab.EchoPort),
		Example:           "  ovlctl exec web -- ovlctl lab ask 192.168.77.254:7777",
		Args:              exactly("HOST:PORT"),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, args []string) error {
			ctx, cancel := o.deadline(c.Context())
			defer cancel()
			network := "tcp"
			if udp {
				network = "udp"
			}
			seen, err := lab.AskEcho(ctx, network, args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(o.stdout, seen)
			return err
		},
	}
	c.Flags().BoolVar(&udp, "udp", false, "ask over UDP")
	return c
}

// newLabProcess is the main function of one of a lab's own processes. It reads
// no configuration: who runs ovlctl has nothing to do with it.
func newLabProcess(use string, run func(string) error) *cobra.Command {
	return &cobra.Command{
		Use:               use,
		Hidden:            true,
		Args:              exactly("CONFIGURATION"),
		PersistentPreRunE: func(*cobra.Command, []string) error { return nil },
		RunE:              func(_ *cobra.Command, args []string) error { return run(args[0]) },
	}
}

func withLab(o *options, c *cobra.Command, name string, do func(context.Context, *lab.Lab) error) error {
	ctx, cancel := o.deadline(c.Context())
	defer cancel()
	l, err := lab.Open("", name)
	if err != nil {
		return labError(err)
	}
	return labError(do(ctx, l))
}

// labError gives an error its exit code.
func labError(err error) error {
	switch {
	case errors.Is(err, lab.ErrNotFound):
		return codef(exitNotFound, "%w", err)
	case errors.Is(err, lab.ErrExists):
		return codef(exitConflict, "%w", err)
	case errors.Is(err, lab.ErrInvalid):
		return usagef("%w", err)
	default:
		return err
	}
}

func labNameFlag(c *cobra.Command, name *string) {
	c.Flags().StringVar(name, "name", defaultLab, "name of the lab")
	completeFlag(c, "name", func(c *cobra.Command) ([]string, error) { return labNames(c.Context()) })
}
