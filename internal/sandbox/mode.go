package sandbox

import (
	"net/netip"
	"path/filepath"
	"strings"
)

// Mode says whose network namespace a sandbox has. The zero value is one of its
// own.
type Mode string

// HostMode is the mode of a sandbox in the host's network namespace.
const HostMode Mode = "host"

// HostNetNS is the path of the host's network namespace: that of this process.
const HostNetNS = "/proc/self/ns/net"

const containerPrefix = "container:"

// ContainerMode returns the mode of a sandbox that shares the network namespace of
// another container.
func ContainerMode(other string) Mode { return Mode(containerPrefix + other) }

// Container returns the name of the container whose network namespace is
// shared.
func (m Mode) Container() (name string, ok bool) {
	return strings.CutPrefix(string(m), containerPrefix)
}

// Wish is what was asked for of the files of a sandbox. It is kept, since what
// becomes of it changes with the networks that the sandbox is on.
type Wish struct {
	Hostname string       `json:"hostname,omitempty"`
	Hosts    []HostLine   `json:"hosts,omitempty"` // without an address: the way to the host
	Servers  []netip.Addr `json:"servers,omitempty"`
	Search   []string     `json:"search,omitempty"`
	Options  []string     `json:"options,omitempty"`
}

// Keep records the wish.
func (s Sandbox) Keep(w Wish) error { return s.record(func(st *state) { st.Wish = w }) }

// Kept returns the mode and the wish as recorded. The error wraps [ErrMissing]
// if there is no such sandbox.
func (s Sandbox) Kept() (Mode, Wish, error) {
	st, err := s.read()
	return st.Mode, st.Wish, err
}

// Lock waits until nobody else has the sandbox locked. The lock ends with the
// process at the latest.
func (s Sandbox) Lock() (unlock func(), err error) {
	unlock, err = lockDir(s.dir())
	return unlock, wrap("lock sandbox "+s.Name, err)
}

// Sharing returns the names of the sandboxes that share this one's network
// namespace, sorted. One that is just being removed may be missing.
func (s Sandbox) Sharing() ([]string, error) {
	names, err := s.paths.List()
	if err != nil {
		return nil, err
	}
	var sharing []string
	for _, name := range names {
		other := Sandbox{Name: name, paths: s.paths}
		if st, err := other.read(); err == nil && st.Mode == ContainerMode(s.Name) {
			sharing = append(sharing, name)
		}
	}
	return sharing, nil
}

// markFiles are the files by which a process is known to be in a sandbox: no
// mount namespace but one that [Sandbox.Enter] or ip netns exec made has them
// at these places in /etc.
var markFiles = []string{"hosts", "hostname"}

// marks returns the sandbox's own of those files.
func (s Sandbox) marks() map[nsID]bool {
	ids := map[nsID]bool{}
	for _, name := range markFiles {
		if id, err := namespaceID(filepath.Join(s.etc(), name)); err == nil {
			ids[id] = true
		}
	}
	return ids
}
