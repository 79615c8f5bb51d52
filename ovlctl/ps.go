package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ovlnet/ovl/internal/sandbox"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

func newPsCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "ps",
		Short: "List the containers and sandboxes of this host",
		Long: `Lists what this host has attached to networks, and its sandboxes with what
runs in them. A sandbox is idle (has no command), running, exited, or gone (its
namespace has vanished).`,
		Example:           "  ovlctl ps\n  ovlctl ps -o json",
		Args:              exactly(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			return o.onAgent(c.Context(), func(ctx context.Context, cl *client) error {
				all, err := cl.listAttachments(ctx)
				if err != nil {
					return cl.explain("list sandboxes", err)
				}
				states, err := o.sandboxStates()
				if err != nil {
					return err
				}
				return psView(states).list(o, withSandboxes(o.paths, all, states))
			})
		},
	}
}

// sandboxStates reads the status of every sandbox of this host.
func (o *options) sandboxStates() (map[string]sandbox.Status, error) {
	names, err := o.paths.List()
	if err != nil {
		return nil, err
	}
	states := map[string]sandbox.Status{}
	for _, n := range names {
		s, err := o.paths.Sandbox(n)
		if err != nil {
			return nil, err
		}
		st, err := s.Status()
		if errors.Is(err, sandbox.ErrMissing) {
			continue // removed since it was listed
		}
		if err != nil {
			return nil, err
		}
		states[n] = st
	}
	return states, nil
}

// withSandboxes adds the sandboxes that are on no network, so that nothing
// which ovlctl rm could remove goes unlisted.
func withSandboxes(paths sandbox.Paths, all []*ovlv1.Attachment, states map[string]sandbox.Status) []*ovlv1.Attachment {
	missing := maps.Clone(states)
	for _, a := range all {
		delete(missing, a.GetName())
	}
	for n, st := range missing {
		s, err := paths.Sandbox(n)
		if err != nil {
			continue // the states come from names that are valid
		}
		all = append(all, &ovlv1.Attachment{Id: n, Name: n, Netns: s.NetNS(), Mode: first(string(st.Mode), "none"), Created: timestamppb.New(st.Created)})
	}
	slices.SortFunc(all, func(a, b *ovlv1.Attachment) int { return strings.Compare(a.GetName(), b.GetName()) })
	return all
}

func psView(states map[string]sandbox.Status) view[*ovlv1.Attachment] {
	state := func(a *ovlv1.Attachment) sandbox.Status { return states[a.GetName()] }
	return view[*ovlv1.Attachment]{
		name: (*ovlv1.Attachment).GetName,
		columns: []column[*ovlv1.Attachment]{
			{title: "NAME", cell: (*ovlv1.Attachment).GetName},
			{title: "STATE", cell: func(a *ovlv1.Attachment) string { return phase(state(a)) }},
			{title: "PID", cell: func(a *ovlv1.Attachment) string { return pid(state(a)) }},
			{title: "NETWORKS", cell: networksOrMode},
			{title: "ADDRESSES", cell: eachInterface(func(i *ovlv1.Interface) string { return list(i.GetAddresses()) })},
			{title: "PORTS", cell: portCell},
			{title: "COMMAND", cell: func(a *ovlv1.Attachment) string { return strings.Join(state(a).Command, " ") }},
			{title: "MAC", wide: true, cell: eachInterface((*ovlv1.Interface).GetMac)},
			{title: "HOST-LINK", wide: true, cell: eachInterface((*ovlv1.Interface).GetHostLink)},
			{title: "HOSTNAME", wide: true, cell: (*ovlv1.Attachment).GetHostname},
			{title: "NETNS", wide: true, cell: (*ovlv1.Attachment).GetNetns},
			{title: "ID", wide: true, cell: (*ovlv1.Attachment).GetId},
			{title: "CREATED", wide: true, cell: func(a *ovlv1.Attachment) string { return when(a.GetCreated()) }},
			{title: "LABELS", wide: true, cell: func(a *ovlv1.Attachment) string { return labels(a.GetLabels()) }},
		},
	}
}

// networksOrMode are the networks that a container is on, or why it is on none.
func networksOrMode(a *ovlv1.Attachment) string {
	return first(eachInterface((*ovlv1.Interface).GetNetwork)(a), a.GetMode(), "none")
}

// phase is the state of a sandbox; that of another runtime's container is not
// ours to know.
func phase(st sandbox.Status) string {
	if st.ExitCode != nil && st.Phase == sandbox.Exited {
		return fmt.Sprintf("%s(%d)", st.Phase, *st.ExitCode)
	}
	return string(st.Phase)
}

func pid(st sandbox.Status) string {
	if st.PID == 0 {
		return ""
	}
	return number(st.PID)
}

func eachInterface(cell func(*ovlv1.Interface) string) func(*ovlv1.Attachment) string {
	return func(a *ovlv1.Attachment) string {
		var out []string
		for _, i := range a.GetInterfaces() {
			out = append(out, cell(i))
		}
		return list(out)
	}
}
