package main

import (
	"context"

	"github.com/spf13/cobra"

	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

func callerView() view[*ovlv1.Caller] {
	return view[*ovlv1.Caller]{
		name: func(m *ovlv1.Caller) string { return m.GetRole() + "/" + m.GetName() },
		columns: []column[*ovlv1.Caller]{
			{title: "ROLE", cell: (*ovlv1.Caller).GetRole},
			{title: "NAME", cell: (*ovlv1.Caller).GetName},
			{title: "HOST-ID", cell: (*ovlv1.Caller).GetHostId},
			{title: "EXPIRES", cell: func(m *ovlv1.Caller) string { return when(m.GetExpires()) }},
			{title: "CA", cell: (*ovlv1.Caller).GetCa},
			{title: "KEY", cell: (*ovlv1.Caller).GetKey},
			{title: "FROM", cell: (*ovlv1.Caller).GetFrom},
			{title: "JOINED", cell: func(m *ovlv1.Caller) string { return when(m.GetJoined()) }},
			{title: "TOKEN", cell: (*ovlv1.Caller).GetToken},
		},
	}
}

func newWhoamiCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "whoami",
		Short: "Show who you are to the controller: role, name, until when",
		Long: `Shows what the controller takes you for: the role and the name in your certificate,
when that ends, which CA issued it, and where you come from. Who is refused is told
why.`,
		Example:           "  ovlctl whoami\n  ovlctl whoami -o name",
		Args:              exactly(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			return o.onController(c.Context(), func(ctx context.Context, cl *client) error {
				m, err := cl.joins().WhoAmI(ctx, &ovlv1.WhoAmIRequest{})
				if err != nil {
					return cl.explain("who am I", err)
				}
				return callerView().one(o, m)
			})
		},
	}
}

func (c *client) joins() ovlv1.JoinServiceClient { return ovlv1.NewJoinServiceClient(c.conn) }
