package kernel_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/dataplane"
)

// published are chains of published ports as plan writes them, of both families.
func published() []dataplane.Chain {
	key := func(f dataplane.Family, name string) dataplane.ChainKey {
		return dataplane.ChainKey{Family: f, FirewallOf: "nat", Name: name}
	}
	return []dataplane.Chain{
		dataplane.NewChain(key(dataplane.IPv4, "OVL-DNAT-128"),
			"-p tcp -m tcp --dport 129 -j DNAT --to-destination 10.64.1.2:80",
			"-d 192.0.2.1/32 -p udp -m udp --dport 130 -j DNAT --to-destination 10.64.1.3:65535"),
		dataplane.NewChain(key(dataplane.IPv6, "OVL-DNAT-128"),
			"-p udp -m udp --dport 129 -j DNAT --to-destination [fd64::2]:80",
			"-d 2001:db8::1/128 -p tcp -m tcp --dport 130 -j DNAT --to-destination [fd64::3]:1"),
	}
}

// programs puts others in the place of iptables' programs, which write down that they
// were run and then do as script says, where NAME is the program and REAL its path; it
// returns which have run since it was last asked.
func programs(t *testing.T, script string) (ran func() string) {
	t.Helper()
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	for _, name := range []string{"iptables-restore", "ip6tables-restore", "iptables-save", "ip6tables-save"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		text := "#!/bin/sh\necho " + name + " >> " + log + "\n" + strings.NewReplacer("NAME", name, "REAL", path).Replace(script)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return func() string {
		b, err := os.ReadFile(log)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		_ = os.Remove(log)
		return strings.TrimSpace(strings.ReplaceAll(string(b), "\n", " "))
	}
}

// TestPortsAreWrittenAsByIPTables: iptables-save says the same of chains that we wrote
// and of those that iptables-restore did, and that the first are there needs no program.
func TestPortsAreWrittenAsByIPTables(t *testing.T) {
	ran := programs(t, `exec REAL "$@"`)
	h := newHost(t)
	for i, c := range published() {
		tool := []string{"iptables", "ip6tables"}[i]
		h.do(t, tool+" -t nat -N THEIRS") // makes the table too
		for rule := range strings.SplitSeq(c.Rules, "\n") {
			h.do(t, tool+" -t nat -A THEIRS "+rule+" -m comment --comment ovl:"+dataplane.RuleHash(rule))
		}
		ran()
		h.apply(t, dataplane.Create, c)
		if got := ran(); got != tool+"-save" {
			t.Errorf("the first chain of %s: ran %q; want that it is looked at once", c.Family, got)
		}
		half := dataplane.NewChain(c.ChainKey, strings.Split(c.Rules, "\n")[:1]...)
		h.apply(t, dataplane.Update, half)
		h.apply(t, dataplane.Update, c)
		if got := ran(); got != "" {
			t.Errorf("later chains of %s: ran %q", c.Family, got)
		}
		saved := h.do(t, tool+"-save -t nat")
		ours, theirs := rulesOf(saved, c.Name), rulesOf(saved, "THEIRS")
		if ours != theirs || ours == "" {
			t.Errorf("we wrote\n%s\nand iptables\n%s", ours, theirs)
		}
		if got := h.chain(t, c.ChainKey); got != c {
			t.Errorf("read back\n%+v\nwant\n%+v", got, c)
		}
	}
}

// chain returns a chain as it is read from the kernel.
func (h *host) chain(t *testing.T, k dataplane.ChainKey) dataplane.Chain {
	t.Helper()
	state, _, err := h.linux.Observe(t.Context(), dataplane.Scope{dataplane.Host: dataplane.Of(dataplane.TableChain)})
	if err != nil {
		t.Fatal(err)
	}
	return state.Chains[k]
}

func rulesOf(saved, chain string) string {
	var out []string
	for line := range strings.Lines(saved) {
		if rest, ok := strings.CutPrefix(line, "-A "+chain+" "); ok {
			out = append(out, rest)
		}
	}
	return strings.Join(out, "")
}

// TestPortsWithoutATable: where no program of iptables has made the table yet, one does.
func TestPortsWithoutATable(t *testing.T) {
	h := newHost(t)
	for _, c := range published() {
		h.apply(t, dataplane.Create, c)
		if got := h.chain(t, c.ChainKey); got != c {
			t.Errorf("read back\n%+v\nwant\n%+v", got, c)
		}
	}
	if saved := h.do(t, "iptables-save -t nat"); !strings.Contains(saved, ":PREROUTING ACCEPT") {
		t.Errorf("the table is not as iptables makes it:\n%s", saved)
	}
}

// TestPortsThatIPTablesDoesNotRead: a version of iptables that reads something else in
// what we write gets to write itself, from then on.
func TestPortsThatIPTablesDoesNotRead(t *testing.T) {
	ran := programs(t, `case NAME in *-save) REAL "$@" | sed 's/ -m tcp//';; *) exec REAL "$@";; esac`)
	h := newHost(t)
	h.do(t, "iptables -t nat -N THEIRS")
	c := published()[0]
	ran()
	h.apply(t, dataplane.Create, c)
	if got := ran(); got != "iptables-save iptables-restore" {
		t.Errorf("the first time ran %q", got)
	}
	h.apply(t, dataplane.Update, dataplane.NewChain(c.ChainKey, strings.Split(c.Rules, "\n")[:1]...))
	if got := ran(); got != "iptables-restore" {
		t.Errorf("the second time ran %q", got)
	}
}
