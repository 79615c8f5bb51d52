package resolver

import (
	"cmp"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	// maxServers is how many resolvers of the host are asked at most: as many as
	// the C library does (MAXNS in resolv.h).
	maxServers = 3
	maxResolv  = 64 << 10 // bytes of a resolv.conf
	// lookAgain is how old what is known of the file may be.
	lookAgain = time.Second
	// rest is how long a resolver that did not answer is asked last.
	rest = 15 * time.Second
)

// upstreams are the host's resolvers, as its resolv.conf has them now. It is
// safe for concurrent use.
type upstreams struct {
	path string
	own  func(netip.Addr) bool // one of our listeners: never to be asked

	mu      sync.Mutex
	looked  time.Time
	seen    fs.FileInfo
	servers []netip.AddrPort
	failed  map[netip.AddrPort]time.Time // when it last did not answer
}

func newUpstreams(path string, own func(netip.Addr) bool) *upstreams {
	return &upstreams{path: path, own: own, failed: map[netip.AddrPort]time.Time{}}
}

// list returns the resolvers to ask, in order: as in the file, but those that
// have just failed to answer last.
func (u *upstreams) list() []netip.AddrPort {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := time.Now()
	if u.looked.IsZero() || now.Sub(u.looked) >= lookAgain {
		u.looked = now
		u.read()
	}
	out := slices.DeleteFunc(slices.Clone(u.servers), func(s netip.AddrPort) bool { return u.own(s.Addr()) })
	slices.SortStableFunc(out, func(a, b netip.AddrPort) int {
		return cmp.Compare(u.resting(a, now), u.resting(b, now))
	})
	return out
}

// resting returns 1 for a server that failed a moment ago, 0 for others.
func (u *upstreams) resting(s netip.AddrPort, now time.Time) int {
	if at, ok := u.failed[s]; ok && now.Sub(at) < rest {
		return 1
	}
	return 0
}

// read takes the file up if it has changed. A file that is gone for a moment,
// as while it is replaced, changes nothing.
func (u *upstreams) read() {
	info, err := os.Stat(u.path)
	if err != nil || u.seen != nil && os.SameFile(info, u.seen) && info.ModTime().Equal(u.seen.ModTime()) && info.Size() == u.seen.Size() {
		return
	}
	f, err := os.Open(u.path)
	if err != nil {
		return
	}
	defer f.Close() // only read
	servers, err := parseResolv(f)
	if err != nil {
		return
	}
	u.seen, u.servers = info, servers
	clear(u.failed)
}

// parseResolv returns the resolvers that a resolv.conf(5) names.
func parseResolv(r io.Reader) ([]netip.AddrPort, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxResolv))
	if err != nil {
		return nil, fmt.Errorf("read resolv.conf: %w", err)
	}
	config, err := dns.ClientConfigFromReader(strings.NewReader(string(b)))
	if err != nil {
		return nil, fmt.Errorf("parse resolv.conf: %w", err)
	}
	var out []netip.AddrPort
	for _, s := range config.Servers {
		a, err := netip.ParseAddr(s)
		if err != nil || a.IsMulticast() {
			continue // as the C library does
		}
		if a.IsUnspecified() { // means this host, resolv.conf(5)
			a = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		}
		server := netip.AddrPortFrom(a.Unmap(), 53)
		if len(out) < maxServers && !slices.Contains(out, server) {
			out = append(out, server)
		}
	}
	return out, nil
}

// note remembers whether a server answered.
func (u *upstreams) note(s netip.AddrPort, answered bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if answered {
		delete(u.failed, s)
		return
	}
	u.failed[s] = time.Now()
}
