package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

func newTokenCommand(o *options) *cobra.Command {
	c := newNounCommand("token", "Make and withdraw tokens with which hosts and people join", []string{"tokens"},
		newTokenCreate(o), newTokenList(o), newTokenRevoke(o))
	c.Long = `A token lets one in who is no member of the cluster yet: a host with "ovl-agent
join", a person with "ovlctl login". It carries the fingerprint of the cluster's CA,
so that nobody in between can answer in the controller's place. Whoever has its
text can use it, until it expires, is spent or is revoked.`
	return c
}

func tokenView() view[*ovlv1.Token] {
	return view[*ovlv1.Token]{
		name: (*ovlv1.Token).GetId,
		columns: []column[*ovlv1.Token]{
			{title: "ID", cell: (*ovlv1.Token).GetId},
			{title: "ROLE", cell: (*ovlv1.Token).GetRole},
			{title: "FOR", cell: func(t *ovlv1.Token) string { return first(t.GetName(), "any") }},
			{title: "USED", cell: func(t *ovlv1.Token) string {
				if t.GetUses() == 0 {
					return number(t.GetUsed())
				}
				return fmt.Sprintf("%d of %d", t.GetUsed(), t.GetUses())
			}},
			{title: "EXPIRES", cell: func(t *ovlv1.Token) string { return when(t.GetExpires()) }},
			{title: "CREATOR", cell: (*ovlv1.Token).GetCreator},
			{title: "CREATED", wide: true, cell: func(t *ovlv1.Token) string { return when(t.GetCreated()) }},
		},
	}
}

func newTokenCreate(o *options) *cobra.Command {
	var (
		host, user, role string
		uses             uint32
		ttl              time.Duration
	)
	c := &cobra.Command{
		Use:   "create",
		Short: "Make a token and print it, once",
		Example: `  ovlctl token create
  ovlctl token create --uses 40 --ttl 15m      # a rack
  ovlctl token create --host db7               # for that host alone
  ovlctl token create --role viewer --user ann # for a person: ovlctl login`,
		Args:              exactly(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case host != "" && (user != "" || role != ""):
				return usagef("token create: --host is for hosts, --role and --user are for people: give one or the other")
			case (user == "") != (role == ""):
				return usagef("token create: a person needs both --role and --user")
			}
			req := &ovlv1.CreateTokenRequest{Role: role, Name: first(host, user), Uses: uses, TtlSeconds: int64(ttl / time.Second)}
			return o.onController(c.Context(), func(ctx context.Context, cl *client) error {
				t, err := cl.tokens().CreateToken(ctx, req)
				if err != nil {
					return cl.explain("create token", err)
				}
				return o.printToken(changed(c, "output"), cl.address, t)
			})
		},
	}
	f := c.Flags()
	f.StringVar(&host, "host", "", "only a host of this name may join with it")
	f.StringVar(&role, "role", "", "for a person: admin, operator or viewer")
	f.StringVar(&user, "user", "", "who that is")
	f.Uint32Var(&uses, "uses", 1, "how often it serves; 0: without bound, until it expires")
	f.DurationVar(&ttl, "ttl", time.Hour, "when it expires")
	fixed(c, "role", "admin", "operator", "viewer")
	return c
}

// printToken prints the text alone on stdout, for scripts, and what to do with
// it on stderr.
func (o *options) printToken(asked bool, controller string, t *ovlv1.Token) error {
	if asked && o.output != formatName {
		return tokenView().one(o, t)
	}
	if _, err := fmt.Fprintln(o.stdout, t.GetText()); err != nil {
		return err
	}
	if t.GetRole() == "host" {
		o.say("On the host, as root:\n\n  ovl-agent join --controller %s --token %s\n", controller, t.GetText())
	} else {
		o.say("%s:\n\n  ovlctl login --controller %s --token %s\n", t.GetName(), controller, t.GetText())
	}
	return nil
}

func newTokenList(o *options) *cobra.Command {
	return &cobra.Command{
		Use:               "ls",
		Aliases:           []string{"list"},
		Short:             "List the tokens that have not expired",
		Example:           "  ovlctl token ls",
		Args:              exactly(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			return o.onController(c.Context(), func(ctx context.Context, cl *client) error {
				r, err := cl.tokens().ListTokens(ctx, &ovlv1.ListTokensRequest{})
				if err != nil {
					return cl.explain("list tokens", err)
				}
				return tokenView().list(o, r.GetTokens())
			})
		},
	}
}

func newTokenRevoke(o *options) *cobra.Command {
	return &cobra.Command{
		Use:               "revoke ID…",
		Aliases:           []string{"rm"},
		Short:             "Withdraw tokens; who has joined with them stays in",
		Example:           "  ovlctl token revoke gezdgnbv",
		Args:              atLeastOne("ID"),
		ValidArgsFunction: o.completeMany(tokenIDs),
		RunE: func(c *cobra.Command, args []string) error {
			return o.onController(c.Context(), func(ctx context.Context, cl *client) error {
				for _, id := range args {
					if _, err := cl.tokens().RevokeToken(ctx, &ovlv1.RevokeTokenRequest{Id: id}); err != nil {
						return cl.explain("revoke token "+id, err)
					}
					fmt.Fprintln(o.stdout, id)
				}
				return nil
			})
		},
	}
}

func tokenIDs(ctx context.Context, o *options) (ids []string, err error) {
	err = o.onController(ctx, func(ctx context.Context, cl *client) error {
		r, err := cl.tokens().ListTokens(ctx, &ovlv1.ListTokensRequest{})
		for _, t := range r.GetTokens() {
			ids = append(ids, t.GetId())
		}
		return err
	})
	return ids, err
}

func (c *client) tokens() ovlv1.TokenServiceClient { return ovlv1.NewTokenServiceClient(c.conn) }
