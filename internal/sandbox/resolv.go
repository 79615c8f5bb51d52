package sandbox

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// Resolv is a resolv.conf(5): who answers questions about names.
type Resolv struct {
	Servers []netip.Addr
	Search  []string
	Options []string
}

// MaxServers is how many servers the C library asks at most (resolv.h: MAXNS).
const MaxServers = 3

// The bounds of glibc (MAXDNSRCH was lifted to a length in 2.26, and nobody has
// a longer list than this) and of what we read.
const (
	maxSearch = 32
	maxResolv = 64 << 10 // bytes
)

// hostResolvPaths are where a host says who its resolvers are. The second is
// systemd-resolved's list of real servers, for when the first names only its
// stub on 127.0.0.53, which a sandbox cannot reach.
var hostResolvPaths = []string{"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"}

// FullHostResolv returns the host's resolvers, those on its loopback included:
// for a sandbox in the host's network namespace.
func FullHostResolv() (Resolv, error) {
	b, err := readBounded(hostResolvPaths[0], maxResolv)
	if errors.Is(err, fs.ErrNotExist) {
		return Resolv{}, nil
	}
	if err != nil {
		return Resolv{}, fmt.Errorf("read resolvers of the host: %w", err)
	}
	return ParseResolv(string(b)), nil
}

// HostResolv returns the host's resolvers as far as a sandbox can reach them:
// servers on the loopback are left out. A host without any gives none.
func HostResolv() (Resolv, error) {
	var best Resolv
	for i, path := range hostResolvPaths {
		b, err := readBounded(path, maxResolv)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return Resolv{}, fmt.Errorf("read resolvers of the host: %w", err)
		}
		r := ParseResolv(string(b)).withoutLoopback()
		if i == 0 || len(r.Servers) > 0 {
			best = r
		}
		if len(r.Servers) > 0 {
			break
		}
	}
	return best, nil
}

// ParseResolv reads a resolv.conf(5) as the C library does: a line that it does
// not understand is left out, the last search or domain line counts.
func ParseResolv(text string) Resolv {
	var r Resolv
	for line := range strings.Lines(text) {
		if i := strings.IndexAny(line, "#;"); i >= 0 {
			line = line[:i]
		}
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		switch words[0] {
		case "nameserver":
			if a, err := netip.ParseAddr(words[1]); err == nil && len(r.Servers) < MaxServers {
				r.Servers = append(r.Servers, a)
			}
		case "search":
			r.Search = words[1:min(len(words), maxSearch+1)]
		case "domain":
			r.Search = words[1:2]
		case "options":
			r.Options = words[1:min(len(words), maxSearch+1)]
		}
	}
	return r
}

func (r Resolv) withoutLoopback() Resolv {
	var servers []netip.Addr
	for _, a := range r.Servers {
		if !a.Unmap().IsLoopback() {
			servers = append(servers, a)
		}
	}
	r.Servers = servers
	return r
}

// String is r as a file.
func (r Resolv) String() string {
	var b strings.Builder
	for _, a := range r.Servers {
		fmt.Fprintf(&b, "nameserver %s\n", a)
	}
	if len(r.Search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(r.Search, " "))
	}
	if len(r.Options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(r.Options, " "))
	}
	return b.String()
}

// resolvMark is the first line of the files that [Resolv.Write] writes.
const resolvMark = "# Written by ovl: its resolvers know the other containers by name."

// MayWriteResolv returns nil if [Resolv.Write] may write the file: there is none, an
// empty one, or one that it has written before.
func MayWriteResolv(path string) error {
	old, err := readBounded(path, maxResolv)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		_, err = os.Stat(filepath.Dir(path))
	case err == nil && len(old) > 0 && !strings.HasPrefix(string(old), resolvMark):
		err = errors.New("it is not of ovl's making: name another file, or remove this one")
	}
	return wrap("write "+path, err)
}

// Write writes r to a file that is there for it. One that is there already is written
// in place: whoever has mounted it sees the file and not its name.
func (r Resolv) Write(path string) error {
	if err := MayWriteResolv(path); err != nil {
		return err
	}
	text := []byte(resolvMark + "\n" + r.String())
	err := overwrite(path, text)
	if errors.Is(err, fs.ErrNotExist) {
		err = writeFile(path, text)
	}
	return wrap("write "+path, err)
}

// readBounded reads a file of at most limit bytes.
func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("read %s: larger than %d bytes", path, limit)
	}
	return b, nil
}
