package kernel

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ovlnet/ovl/internal/dataplane"
)

// Comments that mark rules of ours: of a chain of ours, with the hash of the
// rule's text as we wrote it; of a foreign chain, a jump into one of ours.
const (
	hashComment = "ovl:"
	jumpComment = "ovl:jump"
)

// observe reads chains and jumps: one process per family.
func (f *firewall) observe(ctx context.Context, tables dataplane.Tables, state *dataplane.State) error {
	for i, family := range []dataplane.Family{dataplane.IPv4, dataplane.IPv6} {
		if _, ok := f.tools[family]; !ok {
			continue
		}
		s, err := f.save(ctx, family)
		if err != nil {
			return err
		}
		_, f.dockerUser[i] = s["filter"]["DOCKER-USER"]
		f.relearn(family, s["nat"])
		for table, chains := range s {
			for name, rules := range chains {
				addChain(family, table, name, rules, tables, state)
			}
		}
	}
	return nil
}

// addChain adds the row of a chain of ours, or those of the jumps in a foreign
// one.
func addChain(family dataplane.Family, table, name string, rules []savedRule, tables dataplane.Tables, state *dataplane.State) {
	if strings.HasPrefix(name, dataplane.ChainPrefix) {
		if tables.Has(dataplane.TableChain) {
			key := dataplane.ChainKey{Family: family, FirewallOf: table, Name: name}
			state.Add(chainRow(key, rules))
		}
		return
	}
	for _, r := range rules {
		if r.isJump() && tables.Has(dataplane.TableJump) {
			state.Add(dataplane.Jump{JumpKey: dataplane.JumpKey{Family: family, FirewallOf: table, From: name, To: r.target}})
		}
	}
}

// isJump reports whether a rule is one that [firewall.applyJump] writes: with
// our comment, a chain of ours as its target and no condition.
func (r savedRule) isJump() bool {
	return r.comment == jumpComment && strings.HasPrefix(r.target, dataplane.ChainPrefix) && r.rest == "-j "+r.target
}

// chainRow makes the row of a chain. A rule that does not carry a hash of ours
// stands in the digest with its text, so that the chain differs from any that
// we could want.
func chainRow(key dataplane.ChainKey, rules []savedRule) dataplane.Chain {
	texts, digest := make([]string, len(rules)), make([]string, len(rules))
	for i, r := range rules {
		hash, ours := strings.CutPrefix(r.comment, hashComment)
		if ours {
			texts[i], digest[i] = r.rest, hash
		} else {
			texts[i], digest[i] = r.spec, "foreign:"+r.spec
		}
	}
	return dataplane.Chain{ChainKey: key, Rules: strings.Join(texts, "\n"), Digest: strings.Join(digest, "\n")}
}

func (f *firewall) applyChain(ctx context.Context, verb dataplane.Verb, r dataplane.Chain) error {
	if err := checkChain(r.Name); err != nil {
		return err
	}
	if verb == dataplane.Delete {
		err := f.deleteChain(ctx, r.ChainKey)
		if err == nil {
			f.learn(r.ChainKey, "")
		}
		return err
	}
	return f.writeChains(ctx, r)
}

// chainLines are what makes a chain, or empties it if it is there, and fills it.
func chainLines(r dataplane.Chain) []string {
	lines := []string{":" + r.Name + " - [0:0]"}
	if r.Rules != "" {
		for rule := range strings.SplitSeq(r.Rules, "\n") {
			lines = append(lines, fmt.Sprintf("-A %s %s -m comment --comment %q", r.Name, rule, hashComment+dataplane.RuleHash(rule)))
		}
	}
	return lines
}

// WriteChains implements [reconcile.Grouper].
func (l *Linux) WriteChains(ctx context.Context, ops []dataplane.Op) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var rows []dataplane.Chain
	for _, op := range ops {
		r, ok := op.Row.(dataplane.Chain)
		if !ok || op.Verb == dataplane.Delete || len(rows) > 0 && (r.Family != rows[0].Family || r.FirewallOf != rows[0].FirewallOf) {
			return refusal("chains can be written together only to one table")
		}
		if err := checkChain(r.Name); err != nil {
			return err
		}
		rows = append(rows, r)
	}
	return l.firewall.writeChains(ctx, rows...)
}

// checkChain refuses what is no name of a chain of ours. The kernel's limit is
// 28 bytes (XT_EXTENSION_MAXNAMELEN less its end).
func checkChain(name string) error {
	if !strings.HasPrefix(name, dataplane.ChainPrefix) || len(name) > 28 || strings.ContainsAny(name, " \t\n\"\\") {
		return refusal(fmt.Sprintf("%q is no name of a chain of ours: want OVL-… of at most 28 bytes", clip(name)))
	}
	return nil
}

// deleteChain deletes a chain, and the jumps of ours into it, in one go. A rule
// of somebody else that leads there makes Linux refuse. As a rule nothing leads
// there any more, and then nothing has to be read.
func (f *firewall) deleteChain(ctx context.Context, k dataplane.ChainKey) error {
	away := []string{"-F " + k.Name, "-X " + k.Name}
	if f.restore(ctx, k.Family, k.FirewallOf, away...) == nil {
		return nil
	}
	s, err := f.save(ctx, k.Family)
	if err != nil {
		return err
	}
	chains := s[k.FirewallOf]
	if _, ok := chains[k.Name]; !ok {
		return nil
	}
	var lines []string
	for from, rules := range chains {
		lines = append(lines, removals(from, k.Name, rules)...)
	}
	return f.restore(ctx, k.Family, k.FirewallOf, append(lines, away...)...)
}

// removals returns the lines that take every jump of ours from one chain into
// another away, those that a hand has altered among them.
func removals(from, to string, rules []savedRule) []string {
	var lines []string
	for _, r := range rules {
		if r.comment == jumpComment && r.target == to {
			lines = append(lines, "-D "+from+" "+r.spec)
		}
	}
	return lines
}

// errNoChain says that the chain a jump needs is not there.
var errNoChain = errors.New("no such chain")

func (f *firewall) applyJump(ctx context.Context, verb dataplane.Verb, r dataplane.Jump) error {
	if err := checkChain(r.To); err != nil {
		return err
	}
	s, err := f.save(ctx, r.Family)
	if err != nil {
		return err
	}
	rules := s[r.FirewallOf][r.From]
	lines := removals(r.From, r.To, rules)
	if verb != dataplane.Delete {
		if len(lines) == 1 && jumps(rules, r.To) {
			return nil
		}
		if err := needChains(s[r.FirewallOf], r); err != nil {
			return err
		}
		lines = append(lines, fmt.Sprintf("-I %s 1 -m comment --comment %q -j %s", r.From, jumpComment, r.To))
	}
	if len(lines) == 0 {
		return nil
	}
	return f.restore(ctx, r.Family, r.FirewallOf, lines...)
}

// jumps reports whether one of the rules is the jump to a chain.
func jumps(rules []savedRule, to string) bool {
	for _, r := range rules {
		if r.isJump() && r.target == to {
			return true
		}
	}
	return false
}

// needChains fails if one of a jump's chains is missing. The chains that every
// table has are not in a table that nobody uses yet; a user's chain is.
func needChains(chains map[string][]savedRule, r dataplane.Jump) error {
	if _, ok := chains[r.To]; !ok {
		return fmt.Errorf("jump to %s: %w", r.To, errNoChain)
	}
	if _, ok := chains[r.From]; !ok && !builtIn[r.From] {
		return fmt.Errorf("jump from %s: %w", r.From, errNoChain)
	}
	return nil
}

var builtIn = map[string]bool{"PREROUTING": true, "INPUT": true, "FORWARD": true, "OUTPUT": true, "POSTROUTING": true}
