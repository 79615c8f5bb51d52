package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

func newMemberCommand(o *options) *cobra.Command {
	return newNounCommand("member", "Show who has joined, hosts and people, and throw out", []string{"members"},
		newMemberList(o), newMemberRemove(o))
}

func memberView() view[*ovlv1.Member] {
	return view[*ovlv1.Member]{
		name: func(m *ovlv1.Member) string { return m.GetRole() + "/" + m.GetName() },
		columns: []column[*ovlv1.Member]{
			{title: "ROLE", cell: (*ovlv1.Member).GetRole},
			{title: "NAME", cell: (*ovlv1.Member).GetName},
			{title: "JOINED", cell: func(m *ovlv1.Member) string { return when(m.GetJoined()) }},
			{title: "TOKEN", cell: (*ovlv1.Member).GetToken},
			{title: "HOST-ID", wide: true, cell: (*ovlv1.Member).GetHostId},
			{title: "KEY", wide: true, cell: (*ovlv1.Member).GetKey},
		},
	}
}

func newMemberList(o *options) *cobra.Command {
	return &cobra.Command{
		Use:               "ls",
		Aliases:           []string{"list"},
		Short:             "List who has joined",
		Example:           "  ovlctl member ls",
		Args:              exactly(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			return o.onController(c.Context(), func(ctx context.Context, cl *client) error {
				r, err := cl.members().ListMembers(ctx, &ovlv1.ListMembersRequest{})
				if err != nil {
					return cl.explain("list members", err)
				}
				return memberView().list(o, r.GetMembers())
			})
		},
	}
}

func newMemberRemove(o *options) *cobra.Command {
	c := &cobra.Command{
		Use:   "rm ROLE NAME",
		Short: "Revoke the certificates of a member, at once",
		Long: `rm revokes what a member shows of itself, at once. What a host wrote stays until
its leases end; "ovlctl host rm" removes that too.`,
		Example:           "  ovlctl member rm viewer ann",
		Args:              exactly("ROLE", "NAME"),
		ValidArgsFunction: cobra.FixedCompletions([]string{"host", "admin", "operator", "viewer"}, cobra.ShellCompDirectiveNoFileComp),
		RunE: func(c *cobra.Command, args []string) error {
			who := args[0] + " " + args[1]
			if err := o.confirm("remove " + who); err != nil {
				return err
			}
			return o.onController(c.Context(), func(ctx context.Context, cl *client) error {
				_, err := cl.members().RemoveMember(ctx, &ovlv1.RemoveMemberRequest{Role: args[0], Name: args[1]})
				if err != nil {
					return cl.explain("remove member "+who, err)
				}
				fmt.Fprintln(o.stdout, args[0]+"/"+args[1])
				return nil
			})
		},
	}
	return c
}

func (c *client) members() ovlv1.MemberServiceClient { return ovlv1.NewMemberServiceClient(c.conn) }
