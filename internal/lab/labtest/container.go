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
func (l *Lab) Sandbox(t testing.TB, host, name string, more ...string) Container {
	t.Helper()
	l.Run(t, host, append([]string{"ovlctl", "run", "-d", "--name", name}, more...)...)
	return Container{Lab: l, Host: host, Name: name}
}

// argv returns a command line that runs args in the container.
func (c Container) argv(args []string) []string {
	return append([]string{"ovlctl", "exec", c.Name, "--"}, args...)
}

// Do runs a command in the container and returns what it ended with.
func (c Container) Do(t testing.TB, args ...string) Result {
	t.Helper()
	return c.Lab.Do(t, c.Host, c.argv(args)...)
}

// Run runs a command in the container, which must succeed.
func (c Container) Run(t testing.TB, args ...string) string {
	t.Helper()
	return c.Lab.Run(t, c.Host, c.argv(args)...)
}

// String names the container and its host.
func (c Container) String() string { return c.Name + "@" + c.Host }

// Addrs returns the container's addresses on an interface that are not
// link-local, as the kernel has them.
func (c Container) Addrs(t testing.TB, link string) []netip.Addr {
	t.Helper()
	var links []struct {
		AddrInfo []struct {
			Local netip.Addr `json:"local"`
		} `json:"addr_info"`
	}
	c.Lab.JSON(t, &links, c.Host, c.argv([]string{"ip", "-j", "address", "show", "dev", link})...)
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
func (c Container) Addr(t testing.TB) netip.Addr {
	t.Helper()
	addrs := c.Addrs(t, "eth0")
	if len(addrs) != 1 {
		t.Fatalf("addresses of %s on eth0: %v, want one", c, addrs)
	}
	return addrs[0]
}

// Reaches sends a ping; the error says that it was not answered.
func (c Container) Reaches(t testing.TB, to netip.Addr) error {
	t.Helper()
	if r := c.Do(t, "ping", "-n", "-c1", "-W2", to.String()); r.Code != 0 {
		return fmt.Errorf("%s does not reach %s: %s%s", c, to, r.Stdout, r.Stderr)
	}
	return nil
}
