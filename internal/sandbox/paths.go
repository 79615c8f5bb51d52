package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// Paths are where sandboxes live on a host. Those of /run must be on a tmpfs,
// so that a reboot, which ends all sandboxes, also forgets them.
type Paths struct {
	NetNS string // named network namespaces, as ip-netns(8) has them
	Etc   string // a directory of files for each, bound over /etc by ip netns exec
	State string // a directory of ours for each: state, log
}

// DefaultPaths are the places that ip-netns(8) uses, and ours beside them.
func DefaultPaths() Paths {
	return Paths{NetNS: "/run/netns", Etc: "/etc/netns", State: "/run/ovl/sandbox"}
}

// The ways in which a name can be wrong.
var (
	ErrExists  = errors.New("exists")
	ErrMissing = errors.New("no such sandbox")
	ErrName    = errors.New("want 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit")
)

// Sandbox is one sandbox, there or not: a name and its paths. Names are DNS
// labels, so a name is never a path that leads elsewhere.
type Sandbox struct {
	Name  string
	paths Paths
}

// Sandbox returns the sandbox of that name, which need not exist yet. The error
// wraps [ErrName] if the name is none.
func (p Paths) Sandbox(name string) (Sandbox, error) {
	if err := checkName(name); err != nil {
		return Sandbox{}, err
	}
	return Sandbox{Name: name, paths: p}, nil
}

// List returns the names of this host's sandboxes, sorted.
func (p Paths) List() ([]string, error) {
	entries, err := os.ReadDir(p.State)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list sandboxes: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && checkName(e.Name()) == nil {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// NetNS is the path of the sandbox's network namespace.
func (s Sandbox) NetNS() string { return filepath.Join(s.paths.NetNS, s.Name) }

// LogPath is the file that a detached command writes to.
func (s Sandbox) LogPath() string { return filepath.Join(s.dir(), "log") }

func (s Sandbox) dir() string { return filepath.Join(s.paths.State, s.Name) }
func (s Sandbox) etc() string { return filepath.Join(s.paths.Etc, s.Name) }

// Exists reports whether the sandbox is there.
func (s Sandbox) Exists() bool {
	_, err := os.Lstat(s.dir())
	return err == nil
}

// Free returns nil if the name can be taken: neither a sandbox nor a named
// namespace that somebody else has made uses it. Else the error wraps
// [ErrExists]. Files of ours in /etc/netns alone do not count: /etc outlives a
// reboot, the sandbox does not.
func (s Sandbox) Free() error {
	for _, path := range []string{s.dir(), s.NetNS()} {
		if _, err := os.Lstat(path); err == nil {
			return fmt.Errorf("%s: %w", path, ErrExists)
		}
	}
	if _, err := os.Lstat(s.etc()); err == nil && !s.ownsEtc() {
		return fmt.Errorf("%s: %w", s.etc(), ErrExists)
	}
	return nil
}

// maxName is the longest name: a DNS label (RFC 1035 section 2.3.4).
const maxName = 63

// checkName wants a DNS label in lower case (RFC 1123 section 2.1).
func checkName(s string) error {
	ok := 1 <= len(s) && len(s) <= maxName && s[0] != '-' && s[len(s)-1] != '-'
	for _, c := range []byte(s) {
		ok = ok && ('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-')
	}
	if !ok {
		return fmt.Errorf("name %.80q: %w", s, ErrName)
	}
	return nil
}
