package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ovlnet/ovl/internal/identity"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

func newCACommand(o *options) *cobra.Command {
	c := newNounCommand("ca", "Show the CA of the cluster, and change to another one", []string{"authority"},
		newCAList(o), newCAStatus(o), newCARotate(o), newCAFinish(o))
	c.Long = `Every certificate of the cluster is of its CA. To change that while everything goes
on takes three steps:

  rotate   brings in the next CA. Everybody learns to trust both; the one of now
           still issues.
  (alone)  As soon as all hosts, people and controllers trust it the next CA issues,
           and everybody gets a certificate of it. Both are good.
  finish   drops the one of before, and with it whatever it issued.

Hosts follow by themselves within seconds, people when they next use ovlctl. "ovlctl
ca status" shows who has not; --force goes on without them. No connection of a
container notices, and no token has to be made again before finish.`
	return c
}

func authorityView() view[*ovlv1.Authority] {
	return view[*ovlv1.Authority]{
		name: (*ovlv1.Authority).GetFingerprint,
		columns: []column[*ovlv1.Authority]{
			{title: "FINGERPRINT", cell: (*ovlv1.Authority).GetFingerprint},
			{title: "STATE", cell: (*ovlv1.Authority).GetState},
			{title: "EXPIRES", cell: func(a *ovlv1.Authority) string { return when(a.GetExpires()) }},
			{title: "SUBJECT", wide: true, cell: (*ovlv1.Authority).GetSubject},
			{title: "BEGINS", wide: true, cell: func(a *ovlv1.Authority) string { return when(a.GetBegins()) }},
		},
	}
}

func laggardView() view[*ovlv1.Laggard] {
	return view[*ovlv1.Laggard]{
		name: func(l *ovlv1.Laggard) string { return l.GetRole() + "/" + l.GetName() },
		columns: []column[*ovlv1.Laggard]{
			{title: "ROLE", cell: (*ovlv1.Laggard).GetRole},
			{title: "NAME", cell: (*ovlv1.Laggard).GetName},
			{title: "LACKS", cell: (*ovlv1.Laggard).GetLacks},
			{title: "LAST-HEARD", cell: func(l *ovlv1.Laggard) string { return when(l.GetSaid()) }},
		},
	}
}

// rotationView is the one screen of ca status.
func rotationView() view[*ovlv1.Authorities] {
	return view[*ovlv1.Authorities]{
		name: func(a *ovlv1.Authorities) string { return a.GetPhase() },
		columns: []column[*ovlv1.Authorities]{
			{title: "PHASE", cell: func(a *ovlv1.Authorities) string { return a.GetPhase() + ": " + phaseText(a) }},
			{title: "SINCE", cell: func(a *ovlv1.Authorities) string { return when(a.GetSince()) }},
			{title: "MEMBERS", cell: func(a *ovlv1.Authorities) string { return number(a.GetMembers()) }},
			{title: "LAGGING", cell: func(a *ovlv1.Authorities) string { return number(a.GetLagging()) }},
		},
	}
}

func phaseText(a *ovlv1.Authorities) string {
	switch a.GetPhase() {
	case string(identity.Spread):
		return "everybody learns to trust the next CA"
	case string(identity.Issue):
		return "the next CA issues, and the one of before is still trusted"
	}
	return "one CA"
}

// printRotation prints where a rotation is, who has not followed, and what comes next.
func (o *options) printRotation(a *ovlv1.Authorities) error {
	if o.output != formatTable && o.output != formatWide {
		return rotationView().one(o, a)
	}
	if err := rotationView().one(o, a); err != nil {
		return err
	}
	fmt.Fprintln(o.stdout)
	if err := authorityView().list(o, a.GetAuthorities()); err != nil {
		return err
	}
	if len(a.GetLaggards()) > 0 {
		fmt.Fprintln(o.stdout)
		if err := laggardView().list(o, a.GetLaggards()); err != nil {
			return err
		}
	}
	switch {
	case a.GetPhase() == string(identity.Issue) && a.GetLagging() == 0:
		o.say("Everybody has followed: ovlctl ca finish drops the CA of before.")
	case a.GetLagging() > 0:
		o.say("Hosts follow by themselves, people when they next use ovlctl; who is away keeps the others waiting.")
	}
	return nil
}

func newCAList(o *options) *cobra.Command {
	return &cobra.Command{
		Use:               "ls",
		Aliases:           []string{"list"},
		Short:             "List the CAs that are trusted: one, or two while they change",
		Example:           "  ovlctl ca ls -o wide",
		Args:              exactly(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			return o.onController(c.Context(), func(ctx context.Context, cl *client) error {
				a, err := cl.authorities().GetAuthorities(ctx, &ovlv1.GetAuthoritiesRequest{})
				if err != nil {
					return cl.explain("list CAs", err)
				}
				return authorityView().list(o, a.GetAuthorities())
			})
		},
	}
}

func newCAStatus(o *options) *cobra.Command {
	return &cobra.Command{
		Use:               "status",
		Short:             "Show how far a change of the CA is, and who has not followed",
		Example:           "  ovlctl ca status\n  ovlctl ca status -o json",
		Args:              exactly(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			return o.onController(c.Context(), func(ctx context.Context, cl *client) error {
				a, err := cl.authorities().GetAuthorities(ctx, &ovlv1.GetAuthoritiesRequest{})
				if err != nil {
					return cl.explain("show the CAs", err)
				}
				return o.printRotation(a)
			})
		},
	}
}

func newCARotate(o *options) *cobra.Command {
	var cert, key string
	var undo bool
	c := &cobra.Command{
		Use:   "rotate",
		Short: "Bring in another CA; the one of now stays trusted until finish",
		Long: `Brings in another CA: one that the controller makes, or the one of --ca-cert and
--ca-key, whose key goes to the controller. Where several controllers share an etcd,
each one needs the key: with the same files, ask one after the other (--controller).

It returns at once; "ovlctl ca status" shows how far it is. --undo gives the next CA
up, as long as it has issued nothing.`,
		Example: `  ovlctl ca rotate
  ovlctl ca rotate --ca-cert next.pem --ca-key next-key.pem
  ovlctl --controller 10.0.0.2:6790 ca rotate --ca-cert next.pem --ca-key next-key.pem
  ovlctl ca rotate --undo`,
		Args:              exactly(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case (cert == "") != (key == ""):
				return usagef("ca rotate: --ca-cert and --ca-key belong together: give both or none")
			case undo && cert != "":
				return usagef("ca rotate: --undo brings no CA in: leave --ca-cert and --ca-key out")
			}
			req, err := rotateRequest(cert, key)
			if err != nil {
				return err
			}
			return o.onController(c.Context(), func(ctx context.Context, cl *client) error {
				if undo {
					a, err := cl.authorities().UndoRotation(ctx, &ovlv1.UndoRotationRequest{})
					if err != nil {
						return cl.explain("undo rotation of the CA", err)
					}
					return o.printRotation(a)
				}
				a, err := cl.authorities().RotateAuthority(ctx, req)
				if err != nil {
					return cl.explain("rotate CA", err)
				}
				return o.printRotation(a)
			})
		},
	}
	f := c.Flags()
	f.StringVar(&cert, "ca-cert", "", "certificate of the CA to change to, in PEM (default: the controller makes one)")
	f.StringVar(&key, "ca-key", "", "its key, in PEM; readable by its owner alone")
	f.BoolVar(&undo, "undo", false, "give the next CA up")
	return c
}

// rotateRequest reads the files of a CA; none asks for one that the controller makes.
func rotateRequest(cert, key string) (*ovlv1.RotateAuthorityRequest, error) {
	req := &ovlv1.RotateAuthorityRequest{}
	if cert == "" {
		return req, nil
	}
	var err error
	if req.Certificate, err = identity.Read(cert); err != nil {
		return nil, usagef("ca rotate: %w", err)
	}
	if req.Key, err = identity.ReadKey(key); err != nil {
		return nil, usagef("ca rotate: %w", err)
	}
	return req, nil
}

func newCAFinish(o *options) *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:   "finish",
		Short: "Drop the CA of before, once everybody has followed",
		Long: `Drops the CA of before: what it issued, and tokens that name it, are refused from
then on. While somebody still needs it that is an error which names them.

With --force it takes the next step all the same. While the next CA is being spread
that is to issue with it: nobody is shut out yet. After that it is to drop the one of
before: who has not followed has to join again, with a new token.`,
		Example:           "  ovlctl ca finish\n  ovlctl ca finish --force --yes",
		Args:              exactly(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			question := "drop the CA of before"
			if force {
				question = "go on although some may not have followed"
			}
			if err := o.confirm(question); err != nil {
				return err
			}
			return o.onController(c.Context(), func(ctx context.Context, cl *client) error {
				a, err := cl.authorities().FinishRotation(ctx, &ovlv1.FinishRotationRequest{Force: force})
				if err != nil {
					return cl.explain("finish rotation of the CA", err)
				}
				return o.printRotation(a)
			})
		},
	}
	c.Flags().BoolVarP(&force, "force", "f", false, "also though some have not followed")
	return c
}

func (c *client) authorities() ovlv1.AuthorityServiceClient {
	return ovlv1.NewAuthorityServiceClient(c.conn)
}
