package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

func newAgentStatus(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show how this host's agent is",
		Long: `Shows how this host's agent is, what it holds and which rows it cannot get
right. Exit code 5 says that something is wrong.`,
		Example:           "  ovlctl agent status\n  ovlctl agent status -o json",
		Args:              exactly(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			return o.onAgent(c.Context(), func(ctx context.Context, cl *client) error {
				s, err := cl.agent().GetStatus(ctx, &ovlv1.GetAgentStatusRequest{})
				if err != nil {
					return cl.explain("show agent status", err)
				}
				if err := printAgent(o, s); err != nil {
					return err
				}
				if !agentHealthy(s) {
					return silentError(exitUnhealthy)
				}
				return nil
			})
		},
	}
}

// agentHealthy reports whether nothing is wrong. An agent without etcd serves
// what it has, but it is not well: it hears of no change.
func agentHealthy(s *ovlv1.AgentStatus) bool {
	for _, n := range s.GetSubnets() {
		if n.GetState() == "lost" {
			return false
		}
	}
	switch s.GetOwnership() {
	case "fenced", "conflict":
		return false
	}
	return s.GetEtcdConnected() && len(s.GetFailing()) == 0 && !anyError(s.GetProblems())
}

func printAgent(o *options, s *ovlv1.AgentStatus) error {
	switch o.output {
	case formatJSON, formatYAML:
		return printMessage(o, s)
	case formatName:
		_, err := fmt.Fprintln(o.stdout, oneLine(s.GetHost().GetName()))
		return err
	}
	for _, rows := range [][][]string{agentSummary(o, s), agentSubnets(s), agentFailing(o, s)} {
		if len(rows) == 0 {
			continue
		}
		if err := printTable(o.stdout, rows); err != nil {
			return err
		}
		fmt.Fprintln(o.stdout)
	}
	sayProblems(o.stdout, s.GetProblems())
	_, err := fmt.Fprintln(o.stdout, o.verdict(agentHealthy(s), "healthy", "unhealthy"))
	return err
}

func agentSummary(o *options, s *ovlv1.AgentStatus) [][]string {
	h := s.GetHost()
	etcd := "away"
	if s.GetEtcdConnected() {
		etcd = "connected"
	}
	if s.GetEtcdSince() != nil {
		etcd += " for " + o.since(s.GetEtcdSince())
	}
	rows := [][]string{
		{"host", fmt.Sprintf("%s (%s), underlay %s on %s, MTU %d", h.GetName(), h.GetId(), list(h.GetUnderlay()), s.GetUnderlayLink(), s.GetUnderlayMtu())},
		{"agent", fmt.Sprintf("version %s, up %s", s.GetVersion(), o.since(s.GetStarted()))},
		{"etcd", fmt.Sprintf("%s, %s", etcd, list(s.GetEtcdEndpoints()))},
		{"ownership", first(s.GetOwnership(), "none") + until(s)},
		{"revision", fmt.Sprintf("%d of %d applied", s.GetAppliedRevision(), s.GetClusterRevision())},
		{"rows", fmt.Sprintf("%d wanted, %d failing; pass %d, %s ago", s.GetRows(), len(s.GetFailing()), s.GetPasses(), o.since(s.GetLastPass()))},
		{"attachments", number(s.GetAttachments())},
	}
	return rows
}

func until(s *ovlv1.AgentStatus) string {
	if s.GetOwnershipUntil() == nil {
		return ""
	}
	return " until " + when(s.GetOwnershipUntil())
}

func agentSubnets(s *ovlv1.AgentStatus) [][]string {
	if len(s.GetSubnets()) == 0 {
		return nil
	}
	rows := [][]string{{"NETWORK", "SUBNET", "STATE", "USED", "OF", "BRIDGE"}}
	for _, n := range s.GetSubnets() {
		rows = append(rows, []string{n.GetNetwork(), n.GetPrefix(), n.GetState(), number(n.GetUsed()), number(n.GetSize()), n.GetBridge()})
	}
	return rows
}

func agentFailing(o *options, s *ovlv1.AgentStatus) [][]string {
	if len(s.GetFailing()) == 0 {
		return nil
	}
	rows := [][]string{{"ROW", "OUTCOME", "TRIES", "FOR", "WHY"}}
	for _, f := range s.GetFailing() {
		rows = append(rows, []string{f.GetKey(), f.GetOutcome(), number(f.GetTries()), o.since(f.GetSince()), f.GetError()})
	}
	return rows
}
