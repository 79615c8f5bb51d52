package main

import (
	"context"

	"github.com/spf13/cobra"

	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

func newAgentCommand(o *options) *cobra.Command {
	return newNounCommand("agent", "Show what this host's agent wants, has and does", nil,
		newAgentStatus(o), newAgentPlan(o), newAgentDiff(o))
}

func rowView() view[*ovlv1.Row] {
	return view[*ovlv1.Row]{
		name: (*ovlv1.Row).GetKey,
		columns: []column[*ovlv1.Row]{
			{title: "TABLE", cell: (*ovlv1.Row).GetTable},
			{title: "NAMESPACE", cell: (*ovlv1.Row).GetNamespace},
			{title: "KEY", wide: true, cell: (*ovlv1.Row).GetKey},
			{title: "ROW", lines: true, cell: (*ovlv1.Row).GetText},
		},
	}
}

func opView() view[*ovlv1.Op] {
	return view[*ovlv1.Op]{
		name: func(op *ovlv1.Op) string { return op.GetVerb() + " " + op.GetRow().GetKey() },
		columns: []column[*ovlv1.Op]{
			{title: "VERB", cell: (*ovlv1.Op).GetVerb},
			{title: "TABLE", cell: func(op *ovlv1.Op) string { return op.GetRow().GetTable() }},
			{title: "NAMESPACE", cell: func(op *ovlv1.Op) string { return op.GetRow().GetNamespace() }},
			{title: "KEY", wide: true, cell: func(op *ovlv1.Op) string { return op.GetRow().GetKey() }},
			{title: "ROW", lines: true, cell: func(op *ovlv1.Op) string { return op.GetRow().GetText() }},
			{title: "WHY", cell: (*ovlv1.Op).GetWhy},
		},
	}
}

func newAgentPlan(o *options) *cobra.Command {
	return &cobra.Command{
		Use:               "plan",
		Short:             "Show the rows of kernel state that this host should have",
		Example:           "  ovlctl agent plan\n  ovlctl agent plan -o json",
		Args:              exactly(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			return o.onAgent(c.Context(), func(ctx context.Context, cl *client) error {
				r, err := cl.agent().GetPlan(ctx, &ovlv1.GetPlanRequest{})
				if err != nil {
					return cl.explain("show plan", err)
				}
				sayProblems(o.stderr, r.GetProblems())
				return rowView().list(o, r.GetRows())
			})
		},
	}
}

func newAgentDiff(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "diff",
		Short: "Show what a pass would change now: nothing, at rest",
		Long: `Reads the whole kernel state of this host again and shows what a pass would
change now. At rest that is nothing: no line, or an empty array.`,
		Example:           "  ovlctl agent diff\n  ovlctl agent diff -o json",
		Args:              exactly(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			return o.onAgent(c.Context(), func(ctx context.Context, cl *client) error {
				r, err := cl.agent().GetDiff(ctx, &ovlv1.GetDiffRequest{})
				if err != nil {
					return cl.explain("show diff", err)
				}
				sayProblems(o.stderr, r.GetProblems())
				if len(r.GetOps()) == 0 && (o.output == formatTable || o.output == formatWide) {
					return nil
				}
				return opView().list(o, r.GetOps())
			})
		},
	}
}
