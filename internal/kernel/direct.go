package kernel

import (
	"context"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/ovlnet/ovl/internal/dataplane"
)

// A container that publishes a port waits for the chain that leads there, and of that
// an iptables program takes 10 ms, nearly all of it for itself. So chains of
// published ports are written into iptables' own tables without it, where iptables is
// the kind that keeps its rules in nf_tables: the rules are made of the same extensions
// as its own, in the form that each of its versions reads. What is there is thus
// the same whoever wrote it, and read by iptables-save alone.

// writeChains makes the chains, which are of one table, or fills them anew: all of
// them or none.
func (f *firewall) writeChains(ctx context.Context, rows ...dataplane.Chain) error {
	if len(rows) == 0 {
		return nil
	}
	if !f.writeDirectly(ctx, rows) {
		var lines []string
		for _, r := range rows {
			lines = append(lines, chainLines(r)...)
		}
		if err := f.restore(ctx, rows[0].Family, rows[0].FirewallOf, lines...); err != nil {
			return err
		}
	}
	for _, r := range rows {
		f.learn(r.ChainKey, r.Rules)
	}
	return nil
}

// direct is what is known of writing to the tables of a family directly.
type direct struct {
	proven, disproved bool // iptables-save reads what we write, or does not
}

// writeDirectly reports whether it wrote the chains. If not, for whatever reason, the
// program is to write all of them, and will tell what is wrong.
func (f *firewall) writeDirectly(ctx context.Context, rows []dataplane.Chain) bool {
	family := rows[0].Family
	d := f.direct[family]
	if f.legacy || d == nil || d.disproved {
		return false
	}
	messages, ok := portMessages(rows)
	if !ok || f.nft.transact(messages...) != nil {
		return false
	}
	if d.proven {
		return true
	}
	// An iptables of a version that nobody has seen yet has the last word, once.
	s, err := f.save(ctx, family)
	if err != nil {
		return false
	}
	for _, r := range rows {
		if got := chainRow(r.ChainKey, s[r.FirewallOf][r.Name]); got != r {
			d.disproved = true
			return false
		}
	}
	d.proven = true
	return true
}

// portMessages are the messages of a transaction that writes chains of published
// ports; not ok if the chains are of anything else.
func portMessages(rows []dataplane.Chain) (messages []*nl.NetlinkRequest, ok bool) {
	var rules []*nl.NetlinkRequest
	for _, r := range rows {
		if r.FirewallOf != "nat" || r.Rules == "" {
			return nil, false
		}
		// No table is made: without one, the program makes it as it is to be.
		chain := chainMessage(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, r.ChainKey, unix.NFTA_CHAIN_NAME)
		empty := chainMessage(unix.NFT_MSG_DELRULE, 0, r.ChainKey, unix.NFTA_RULE_CHAIN)
		messages = append(messages, chain, empty)
		for text := range strings.SplitSeq(r.Rules, "\n") {
			d, ok := parseDNAT(text)
			if !ok || dataplane.FamilyOf(d.to.Addr()) != r.Family {
				return nil, false
			}
			m := chainMessage(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, r.ChainKey, unix.NFTA_RULE_CHAIN)
			m.AddData(d.expressions(hashComment + dataplane.RuleHash(text)))
			m.AddData(d.compat())
			rules = append(rules, m)
		}
	}
	return append(messages, rules...), true
}

// chainMessage begins a message about a chain of iptables; name is the attribute that
// names it.
func chainMessage(typ, flags int, k dataplane.ChainKey, name int) *nl.NetlinkRequest {
	m := request(unix.NFNL_SUBSYS_NFTABLES<<8|typ, flags, nfgen(afOf(k.Family), 0)) // NFPROTO_* are the same numbers
	add(m, unix.NFTA_TABLE_NAME, nl.ZeroTerminated(k.FirewallOf))
	add(m, name, nl.ZeroTerminated(k.Name))
	return m
}
