package labtest

import (
	"fmt"
	"net/netip"
	"testing"
)

// Container is a sandbox on a host of the lab.
type Container struct {
	Lab  *Lab
	Host string
	Name string
}

// Sandbox starts a sandbox on networks; more are further arguments of `ovlctl
// run`, a command after "--" included.
func (l *Lab) Sandbox(tb testing.TB, host, name string, more ...string) Container {
	tb.Helper()
	l.Run(tb, host, append([]string{"ovlctl", "run", "-d", "--name", name}, more...)...)
	return Container{Lab: l, Host: host, Name: name}
}

// argv returns a command line that runs args in the container.
func (c Container) argv(args []string) []string {
	return append([]string{"ovlctl", "exec", c.Name, "--"}, args...)
}

// Do runs a command in the container and returns what it ended with.
func (c Container) Do(tb testing.TB, args ...string) Result {
	tb.Helper()
	return c.Lab.Do(tb, c.Host, c.argv(args)...)
}

// Run runs a command in the container, which must succeed.
func (c Container) Run(tb testing.TB, args ...string) string {
	tb.Helper()
	return c.Lab.Run(tb, c.Host, c.argv(args)...)
}

// String names the container and its host.
func (c Container) String() string { return c.Name + "@" + c.Host }

// Addrs returns the container's addresses on an interface that are not
// link-local, as the kernel has them.
func (c Container) Addrs(tb testing.TB, link string) []netip.Addr {
	tb.Helper()
	var links []struct {
		AddrInfo []struct {
			Local netip.Addr `json:"local"`
		} `json:"addr_info"`
	}
	c.Lab.JSON(tb, &links, c.Host, c.argv([]string{"ip", "-j", "address", "show", "dev", link})...)
	var addrs []netip.Addr
	for _, l := range links {
		for _, a := range l.AddrInfo {
			if !a.Local.IsLinkLocalUnicast() {
				addrs = append(addrs, a.Local)
			}
		}
	}
	return addrs
}

// Addr returns the container's only address on eth0.
func (c Container) Addr(tb testing.TB) netip.Addr {
	tb.Helper()
	addrs := c.Addrs(tb, "eth0")
	if len(addrs) != 1 {
		tb.Fatalf("addresses of %s on eth0: %v, want one", c, addrs)
	}
	return addrs[0]
}

// Reaches sends a ping; the error says that it was not answered.
func (c Container) Reaches(tb testing.TB, to netip.Addr) error {
	tb.Helper()
	if r := c.Do(tb, "ping", "-n", "-c1", "-W2", to.String()); r.Code != 0 {
		return fmt.Errorf("%s does not reach %s: %s%s", c, to, r.Stdout, r.Stderr)
	}
	return nil
}
