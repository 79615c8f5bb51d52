package sandbox

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/ovlnet/ovl/internal/wholefile"
)

// Files is what a command in the sandbox reads under /etc.
type Files struct {
	Hostname string
	Hosts    []HostLine
	Resolv   Resolv
}

// HostLine is a line of /etc/hosts.
type HostLine struct {
	Addr  netip.Addr `json:"addr"`
	Names []string   `json:"names"`
}

// etcMark is the first line of our hosts files. It tells our directories under
// /etc/netns, where people may have some too, from theirs.
const etcMark = "# Written by ovl for a sandbox."

// maxHosts bounds the hosts file that we read, in bytes.
const maxHosts = 1 << 20

// localHosts begins every hosts file: names that programs expect to work
// without any network.
const localHosts = etcMark + `
127.0.0.1	localhost
::1	localhost ip6-localhost ip6-loopback
`

// WriteFiles writes hosts, resolv.conf and hostname, each whole or not at all.
func (s Sandbox) WriteFiles(f Files) error {
	if err := os.MkdirAll(s.etc(), 0o755); err != nil { //nolint:gosec // every user in the sandbox reads them
		return fmt.Errorf("write files of sandbox %s: %w", s.Name, err)
	}
	for _, file := range []struct{ name, text string }{
		{"hosts", f.hosts()}, // first: it says whose directory this is
		{"hostname", f.Hostname + "\n"},
		{"resolv.conf", f.Resolv.String()},
	} {
		if err := writeFile(filepath.Join(s.etc(), file.name), []byte(file.text)); err != nil {
			return fmt.Errorf("write files of sandbox %s: %w", s.Name, err)
		}
	}
	return nil
}

// UpdateFiles writes hosts and resolv.conf anew where the commands that run in
// the sandbox have them: in place, as those see the file and not its name. A
// reader may for a moment see the old end behind the new beginning.
func (s Sandbox) UpdateFiles(f Files) error {
	for name, text := range map[string]string{"hosts": f.hosts(), "resolv.conf": f.Resolv.String()} {
		if err := overwrite(filepath.Join(s.etc(), name), []byte(text)); err != nil {
			return fmt.Errorf("update files of sandbox %s: %w", s.Name, err)
		}
	}
	return nil
}

func overwrite(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(text, 0)
	if err == nil {
		err = f.Truncate(int64(len(text)))
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// ownsEtc reports whether the sandbox's directory under /etc/netns is ours: it
// has our mark, or nothing at all as after a crash.
func (s Sandbox) ownsEtc() bool {
	b, err := readBounded(filepath.Join(s.etc(), "hosts"), maxHosts)
	if err == nil {
		return strings.HasPrefix(string(b), etcMark)
	}
	entries, err := os.ReadDir(s.etc())
	return err == nil && len(entries) == 0
}

func (f Files) hosts() string {
	var b strings.Builder
	b.WriteString(localHosts)
	for _, l := range f.Hosts {
		fmt.Fprintf(&b, "%s\t%s\n", l.Addr, strings.Join(l.Names, " "))
	}
	return b.String()
}

// writeFile replaces path by a file with that text. A reader sees the old one
// or the new one.
func writeFile(path string, text []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, text) {
		return nil
	}
	return wholefile.Replace(path, text, 0o644)
}
