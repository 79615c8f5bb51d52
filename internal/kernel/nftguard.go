package kernel

import (
	"fmt"
	"slices"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/ovlnet/ovl/internal/dataplane"
)

// nftChain is a chain in one of our tables.
type nftChain struct {
	name string
	line string // as it stands in a guard
}

// hookLine is how a guard writes a chain that the kernel calls, at one of nftHooks.
const hookLine = "chain %s { type filter hook %s priority %d; }"

// nftHooks are the hooks by number, in the families of both tables alike
// (NF_INET_*, NF_BR_* of include/uapi/linux/netfilter.h and netfilter_bridge.h).
var nftHooks = [...]string{"prerouting", "input", "forward", "output", "postrouting"}

// chains lists the chains in a table, in the order in which they were made; none
// if the table is not there.
func (n *nft) chains(in dataplane.NFTable) (found []nftChain, err error) {
	err = n.list(unix.NFT_MSG_GETCHAIN, in, func(list []syscall.NetlinkRouteAttr) {
		if textOf(list, unix.NFTA_CHAIN_TABLE) != dataplane.NFTableName {
			return // this dump knows no narrower scope than the family
		}
		name := textOf(list, unix.NFTA_CHAIN_NAME)
		c := nftChain{name, "chain " + name}
		if hook := attrs(valueOf(list, unix.NFTA_CHAIN_HOOK)); hook != nil {
			number, policy := fromBE32(valueOf(hook, unix.NFTA_HOOK_HOOKNUM)), fromBE32(valueOf(list, unix.NFTA_CHAIN_POLICY))
			if typ := textOf(list, unix.NFTA_CHAIN_TYPE); typ != "filter" || int(number) >= len(nftHooks) || policy != nfAccept {
				c.line = fmt.Sprintf("foreign:chain %s of type %s, hook %d, policy %d", name, typ, number, policy)
			} else {
				c.line = fmt.Sprintf(hookLine, name, nftHooks[number], int32(fromBE32(valueOf(hook, unix.NFTA_HOOK_PRIORITY))))
			}
		}
		found = append(found, c)
	})
	return found, err
}

// readGuard adds the row of a table's chains and rules, if there are any, or if
// the table is there for nothing at all.
func (n *nft) readGuard(in dataplane.NFTable, sets []foundSet, state *dataplane.State) error {
	chains, err := n.chains(in)
	if err != nil {
		return err
	}
	if len(chains)+len(sets) == 0 {
		if there, err := n.exists(in); err != nil || !there {
			return err
		}
	}
	rules := map[string][]string{}
	err = n.list(unix.NFT_MSG_GETRULE, in, func(list []syscall.NetlinkRouteAttr) {
		chain := textOf(list, unix.NFTA_RULE_CHAIN)
		rules[chain] = append(rules[chain], hashOf(valueOf(list, unix.NFTA_RULE_USERDATA)))
	})
	if err != nil {
		return err
	}
	var lines []string
	for _, s := range sets {
		if !s.ours {
			lines = append(lines, "foreign:set "+s.name)
		}
	}
	for _, c := range chains {
		lines = append(append(lines, c.line), rules[c.name]...)
	}
	if len(lines) > 0 || len(sets) == 0 {
		text := strings.Join(lines, "\n")
		state.Add(dataplane.Guard{GuardKey: dataplane.GuardKey{In: in}, Rules: text, Digest: text})
	}
	return nil
}

// udataComment is the type of a comment among the data that a rule carries for
// its writer (NFTNL_UDATA_RULE_COMMENT in libnftnl's udata.h): nft(8) shows it.
const udataComment = 0

// comment returns the data of a rule that carries the hash of its text.
func comment(rule string) []byte {
	return udata(udataComment, nl.ZeroTerminated(hashComment+dataplane.RuleHash(rule)))
}

// hashOf returns the hash that a rule carries; something that is no hash if it
// carries none.
func hashOf(data []byte) string {
	if len(data) >= 2 && data[0] == udataComment && int(data[1]) == len(data)-2 {
		if hash, ours := strings.CutPrefix(unix.ByteSliceToString(data[2:]), hashComment); ours {
			return hash
		}
	}
	return "foreign:rule"
}

// applyGuard replaces all chains of a table in one transaction, so that no packet
// finds half of them.
func (n *nft) applyGuard(verb dataplane.Verb, r dataplane.Guard) error {
	sets, err := n.sets(r.In)
	if err != nil {
		return err
	}
	chains, err := n.chains(r.In)
	if err != nil {
		return err
	}
	if verb == dataplane.Delete && !slices.ContainsFunc(sets, func(s foundSet) bool { return s.ours }) {
		return n.deleteTable(r.In)
	}
	messages := clearing(r.In, chains, sets)
	if verb != dataplane.Delete {
		more, err := writing(r)
		if err != nil {
			return err
		}
		messages = append(messages, more...)
	}
	if len(messages) == 0 {
		return nil
	}
	return n.transact(messages...)
}

// clearing takes all chains away, and the sets that are none of ours.
func clearing(in dataplane.NFTable, chains []nftChain, sets []foundSet) []*nl.NetlinkRequest {
	var messages []*nl.NetlinkRequest
	if len(chains) > 0 {
		messages = append(messages, nftMessage(unix.NFT_MSG_DELRULE, 0, in)) // of all chains
	}
	for _, c := range chains {
		m := nftMessage(unix.NFT_MSG_DELCHAIN, 0, in)
		add(m, unix.NFTA_CHAIN_NAME, nl.ZeroTerminated(c.name))
		messages = append(messages, m)
	}
	for _, s := range sets {
		if !s.ours {
			m := nftMessage(unix.NFT_MSG_DELSET, 0, in)
			add(m, unix.NFTA_SET_NAME, nl.ZeroTerminated(s.name))
			messages = append(messages, m)
		}
	}
	return messages
}

// writing makes all chains, and then the rules, which may lead to any of them.
func writing(r dataplane.Guard) ([]*nl.NetlinkRequest, error) {
	chains := []*nl.NetlinkRequest{makes(unix.NFT_MSG_NEWTABLE, r.In)}
	var rules []*nl.NetlinkRequest
	name := ""
	for line := range strings.SplitSeq(r.Rules, "\n") {
		if dataplane.IsChainLine(line) {
			name = strings.Fields(line)[1]
			m, err := newChain(r.In, name, line)
			if err != nil {
				return nil, err
			}
			chains = append(chains, m)
			continue
		}
		expressions, err := compile(line)
		if err != nil {
			return nil, err
		}
		m := makes(unix.NFT_MSG_NEWRULE, r.In)
		add(m, unix.NFTA_RULE_CHAIN, nl.ZeroTerminated(name))
		m.AddData(expressions)
		add(m, unix.NFTA_RULE_USERDATA, comment(line))
		rules = append(rules, m)
	}
	return append(chains, rules...), nil
}

func newChain(in dataplane.NFTable, name, line string) (*nl.NetlinkRequest, error) {
	m := makes(unix.NFT_MSG_NEWCHAIN, in)
	add(m, unix.NFTA_CHAIN_NAME, nl.ZeroTerminated(name))
	if line == "chain "+name {
		return m, nil
	}
	var (
		at       string
		priority int32
	)
	_, err := fmt.Sscanf(line, strings.Replace(hookLine, "%s", name, 1), &at, &priority)
	number := slices.Index(nftHooks[:], at)
	if err != nil || number < 0 || line != fmt.Sprintf(hookLine, name, at, priority) {
		return nil, refusal(fmt.Sprintf("%q is no chain that we make", clip(line)))
	}
	hook := nl.NewRtAttr(unix.NFTA_CHAIN_HOOK, nil)
	hook.AddRtAttr(unix.NFTA_HOOK_HOOKNUM, be32(uint32(number)))
	hook.AddRtAttr(unix.NFTA_HOOK_PRIORITY, be32(uint32(priority)))
	m.AddData(hook)
	add(m, unix.NFTA_CHAIN_POLICY, be32(nfAccept))
	add(m, unix.NFTA_CHAIN_TYPE, nl.ZeroTerminated("filter"))
	return m, nil
}
