package kernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/coreos/go-iptables/iptables"

	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/reconcile"
)

// firewall is iptables(8): of the two kinds of it, legacy and nft, the one that
// is in use here.
type firewall struct {
	legacy bool
	tools  map[dataplane.Family]tools
	// dockerUser remembers from the last look in which families there is a
	// chain of that name.
	dockerUser [2]bool
	// generation tells the current one of nf_tables, 0 if it is not known.
	generation  func() uint32
	generations generations
	published   map[dataplane.Family]*published // as last read or written
	nft         *nft
	direct      map[dataplane.Family]*direct
}

// tools are the programs of one family.
type tools struct {
	save, restore string // paths
	waits         bool   // restore knows --wait, for the lock of iptables-legacy
}

func (f *firewall) String() string {
	if f.legacy {
		return "iptables-legacy"
	}
	return "iptables"
}

// findFirewall finds the programs. What "iptables" stands for is a choice of
// the distribution, which is right unless other programs on this host use
// iptables-legacy all the same: then rules of ours in nft would stand beside
// theirs, and a packet would have to please both.
func findFirewall() (*firewall, error) {
	f := &firewall{
		tools:     map[dataplane.Family]tools{},
		published: map[dataplane.Family]*published{dataplane.IPv4: newPublished(), dataplane.IPv6: newPublished()},
		direct:    map[dataplane.Family]*direct{dataplane.IPv4: {}, dataplane.IPv6: {}},
	}
	suffix := ""
	if legacyInUse() {
		if _, err := exec.LookPath("iptables-legacy-restore"); err == nil {
			suffix = "-legacy"
		}
	}
	t, err := findTools("iptables" + suffix)
	if errors.Is(err, exec.ErrNotFound) {
		return nil, errors.New("find iptables-save and iptables-restore: not in PATH: install the package iptables (Debian, Ubuntu: apt install iptables; Fedora: dnf install iptables-nft)")
	}
	if err != nil {
		return nil, fmt.Errorf("find iptables: %w: reinstall the package iptables", err)
	}
	f.tools[dataplane.IPv4] = t
	if t, err := findTools("ip6tables" + suffix); err == nil {
		f.tools[dataplane.IPv6] = t
	}
	f.legacy = isLegacy(t.restore)
	return f, nil
}

// findTools finds the programs beside the one of that name. The library tells
// its version; to save and to restore it has no call, and its calls for one rule
// are no part of a transaction and end with no context.
func findTools(name string) (tools, error) {
	ipt, err := iptables.New(iptables.Path(name))
	if err != nil {
		return tools{}, err
	}
	save, err := exec.LookPath(name + "-save")
	if err != nil {
		return tools{}, err
	}
	restore, err := exec.LookPath(name + "-restore")
	if err != nil {
		return tools{}, err
	}
	major, minor, patch := ipt.GetIptablesVersion()
	return tools{save, restore, slices.Compare([]int{major, minor, patch}, []int{1, 6, 2}) >= 0}, nil
}

// legacyInUse reports whether this namespace has a table of iptables-legacy:
// one appears when a program first uses it.
func legacyInUse() bool {
	b, err := os.ReadFile("/proc/net/ip_tables_names")
	return err == nil && len(bytes.TrimSpace(b)) > 0
}

// isLegacy asks a program for its version, "iptables-restore v1.8.9 (nf_tables)",
// since the library keeps the kind to itself. One that knows no nft (before 1.8)
// names none.
func isLegacy(program string) bool {
	out, err := exec.Command(program, "--version").Output() //nolint:noctx // asked once, at the start; it answers at once
	return err == nil && !bytes.Contains(out, []byte("nf_tables"))
}

// toolError is the failure of a program.
type toolError struct {
	program string
	code    int
	said    string
}

func (e *toolError) Error() string {
	if e.said == "" {
		return fmt.Sprintf("%s: exit code %d", e.program, e.code)
	}
	return fmt.Sprintf("%s: exit code %d: %s", e.program, e.code, e.said)
}

// resourceProblem is the exit code of iptables when the lock is taken or the
// kernel is short of memory (RESOURCE_PROBLEM in iptables' xtables.h).
const resourceProblem = 4

func (e *toolError) class() reconcile.Class {
	if e.code == resourceProblem {
		return reconcile.Again
	}
	return reconcile.Refused
}

// run runs a program without a shell.
func (f *firewall) run(ctx context.Context, stdin, program string, args ...string) (string, error) {
	var out, said bytes.Buffer
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &said
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		line, _, _ := strings.Cut(strings.TrimSpace(said.String()), "\n")
		return "", &toolError{program: program, code: exit.ExitCode(), said: clip(line)}
	}
	if err != nil {
		return "", fmt.Errorf("run %s: %w", program, err)
	}
	return out.String(), nil
}

func (f *firewall) of(family dataplane.Family) (tools, error) {
	t, ok := f.tools[family]
	if !ok {
		return t, refusal("ip6tables-restore is not in PATH: install the package iptables")
	}
	return t, nil
}

// save reads all tables of a family at once; those that nobody uses are not
// there.
func (f *firewall) save(ctx context.Context, family dataplane.Family) (saved, error) {
	t, err := f.of(family)
	if err != nil {
		return nil, err
	}
	out, err := f.run(ctx, "", t.save)
	if err != nil {
		return nil, err
	}
	return parseSave(out)
}

// restore does the given lines to one table, all or none of them.
func (f *firewall) restore(ctx context.Context, family dataplane.Family, table string, lines ...string) error {
	t, err := f.of(family)
	if err != nil {
		return err
	}
	for _, w := range append([]string{table}, lines...) {
		if strings.ContainsAny(w, "\n\r\x00") {
			return refusal(fmt.Sprintf("%q holds a line break", clip(w)))
		}
	}
	input := "*" + table + "\n" + strings.Join(lines, "\n") + "\nCOMMIT\n"
	args := []string{"--noflush"}
	if t.waits {
		args = append(args, "--wait=5")
	}
	write := func() error {
		_, err := f.run(ctx, input, t.restore, args...)
		return err
	}
	if f.legacy {
		return write()
	}
	return f.generations.during(f.generation, write)
}
