package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ovlnet/ovl/internal/lab"
)

// labShown is a lab as `lab ls` prints it.
type labShown struct {
	Name        string           `json:"name"`
	State       string           `json:"state"` // up or crashed
	UnderlayMTU int              `json:"underlayMtu"`
	Hosts       []lab.HostStatus `json:"hosts"`
}

// showLabs asks every lab about its hosts.
func showLabs(ctx context.Context) ([]labShown, error) {
	labs, err := lab.List(ctx, "")
	if err != nil {
		return nil, err
	}
	shown := []labShown{} // no labs are an empty array, not null
	for _, l := range labs {
		s := labShown{Name: l.Name(), State: "crashed", UnderlayMTU: l.Config().MTU, Hosts: []lab.HostStatus{}}
		if l.Alive() {
			s.State = "up"
			if s.Hosts, err = l.Status(ctx); err != nil {
				return nil, err
			}
		}
		shown = append(shown, s)
	}
	return shown, nil
}

// printLabs prints a line for each host of each lab.
func printLabs(o *options, labs []labShown) error {
	switch o.output {
	case formatJSON, formatYAML:
		return printValue(o, labs)
	case formatName:
		for _, l := range labs {
			fmt.Fprintln(o.stdout, l.Name)
		}
		return nil
	}
	wide := o.output == formatWide
	rows := [][]string{labRow(wide, "LAB", "STATE", "HOST", "UNDERLAY", "RUNS", "CUT", "PID", "MTU")}
	for _, l := range labs {
		mtu := strconv.Itoa(l.UnderlayMTU)
		if len(l.Hosts) == 0 {
			rows = append(rows, labRow(wide, l.Name, l.State, "", "", "", "", "", mtu))
		}
		for _, h := range l.Hosts {
			rows = append(rows, labRow(wide, l.Name, l.State, h.Name, h.Address,
				strings.Join(h.Runs, ","), h.Cut, strconv.Itoa(h.PID), mtu))
		}
	}
	return printTable(o.stdout, rows)
}

// labRow drops the cells that only -o wide shows.
func labRow(wide bool, cells ...string) []string {
	const narrow = 6
	if wide {
		return cells
	}
	return cells[:narrow]
}

func labNames(ctx context.Context) ([]string, error) {
	labs, err := lab.List(ctx, "")
	if err != nil {
		return nil, err
	}
	var names []string
	for _, l := range labs {
		names = append(names, l.Name())
	}
	return names, nil
}

// completeLabHost completes a host of the lab that --name says.
func completeLabHost(name *string) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		l, err := lab.Open("", *name)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var hosts []string
		for _, h := range l.Hosts() {
			hosts = append(hosts, h.Name)
		}
		return hosts, cobra.ShellCompDirectiveNoFileComp
	}
}
