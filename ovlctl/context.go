package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newContextCommand(o *options) *cobra.Command {
	ls := &cobra.Command{
		Use:               "ls",
		Aliases:           []string{"list"},
		Short:             "List the contexts of the configuration file",
		Args:              exactly(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(*cobra.Command, []string) error { return o.listContexts() },
	}
	c := newNounCommand("context", "Show the clusters that the configuration file names", []string{"contexts"}, ls)
	c.Long = `Contexts say whom to ask, by name. They stand in ~/.config/ovl/config.yaml:

  currentContext: home
  contexts:
  - name: home
    controller: 192.0.2.1:6790
    ca: home-ca.pem
    cert: home.pem
  - name: here
    socket: /run/ovl/agent.sock

ca is the cluster's CA, cert holds your certificate and its key (or the key is in
the file that key names); "ovlctl login" writes all of it. Who has no such file uses
this machine's, if he may read it: /etc/ovl/ovlctl.yaml, or what ovl-controller has
written to /var/lib/ovl-controller/identity/ovlctl.yaml.

--context or OVL_CONTEXT picks another one for one command; --controller and
--socket, --ca, --cert and --key, or OVL_CONTROLLER and so on, outrank it.`
	return c
}

func (o *options) listContexts() error {
	c, err := o.loadConfig()
	if err != nil {
		return err
	}
	current := first(o.context, o.getenv("OVL_CONTEXT"), c.CurrentContext)
	if o.output == formatName {
		for _, x := range c.Contexts {
			fmt.Fprintln(o.stdout, oneLine(x.Name))
		}
		return nil
	}
	if o.output == formatJSON || o.output == formatYAML {
		return printValue(o, append([]contextSet{}, c.Contexts...))
	}
	rows := [][]string{{"NAME", "CURRENT", "CONTROLLER", "SOCKET"}}
	for _, x := range c.Contexts {
		rows = append(rows, []string{x.Name, yesNo(x.Name == current), x.Controller, x.Socket})
	}
	return printTable(o.stdout, rows)
}
