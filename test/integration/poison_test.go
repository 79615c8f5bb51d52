package integration

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/identity"
	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
	"github.com/ovlnet/ovl/internal/store"
)

// poisonEnv makes this test binary one who writes into etcd as he likes: TestPoison.
const poisonEnv = "OVL_TEST_POISON"

// TestPoison writes with the controller's certificate what no honest program writes.
func TestPoison(t *testing.T) {
	addr := os.Getenv(poisonEnv)
	if addr == "" {
		return // it is no test
	}
	kv := dialAs(t, addr, "/var/lib/ovl/identity/controller.pem")
	page, err := kv.Range(t.Context(), store.HostsPrefix, store.SubnetsPrefix(""))
	if err != nil {
		t.Fatal(err)
	}
	var writes []store.Write
	put := func(key string, value []byte) { writes = append(writes, store.Put(key, value, 0)) }
	const nobody = cluster.HostID("0000000000000000000000000000000f")
	for _, value := range [][]byte{
		nil, []byte("{"), []byte("null"), []byte(`"x"`), bytes.Repeat([]byte{'['}, 60<<10), bytes.Repeat([]byte{0xff}, 1<<10),
		bytes.Repeat([]byte{' '}, store.MaxValueLen+1), []byte(`{"name":"a\nb","vni":4294967296,"pools":[{"prefix":"0.0.0.0/0","hostPrefix":99}]}`),
	} {
		at := string(rune('a' + len(writes)))
		put(store.NetworkKey("bad"+at), value)
		put(store.HostsPrefix+at, value)
		put(store.HostKey(nobody[:31]+cluster.HostID(at[:1])), value)
		put(store.SubnetsPrefix("blue")+at, value)
		put(store.SubnetKey("blue", netip.MustParsePrefix("10.64.250.0/24")), value)
		put(store.EndpointKey("blue", nobody, "web"+at), value)
		put(store.EndpointsPrefix("blue")+strings.Repeat("x/", 500)+at, value)
		put(store.SessionKey(nobody), value)
		put(store.DrainsPrefix+"../../etc", value)
	}
	// Well made, and lies: a host that has another's address, and holds what another has.
	var mine []cluster.Host
	for _, r := range page.Records {
		if h, err := store.DecodeHost(r); err == nil {
			mine = append(mine, h)
		}
	}
	liar := mine[0]
	liar.ID, liar.Name = nobody, "liar"
	value, err := store.EncodeHost(liar)
	if err != nil {
		t.Fatal(err)
	}
	put(store.HostKey(nobody), value)
	for _, r := range page.Records {
		l, err := store.DecodeLease(r)
		if err != nil {
			continue
		}
		l.Host = nobody
		half := netip.PrefixFrom(l.Prefix.Addr(), l.Prefix.Bits()+1)
		for _, p := range []netip.Prefix{half, netip.MustParsePrefix("10.64.0.0/16"), netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("192.168.77.0/24")} {
			l.Prefix = p
			if value, err := store.EncodeLease(l); err == nil {
				put(store.SubnetKey("blue", p), value)
			}
		}
	}
	for _, w := range writes { // some alone are too much for etcd's own taste
		if _, err := kv.Txn(t.Context(), nil, []store.Write{w}); err != nil {
			t.Logf("%.80q: %v", w.Key, err)
		}
	}
}

// TestPoisonedEtcd: whatever stands in etcd, agents go on, lose no packet, and say what
// they do not believe.
func TestPoisonedEtcd(t *testing.T) {
	t.Parallel()
	l := labtest.Up(t, lab.Config{Hosts: 2})
	l.Run(t, "h1", "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16")
	a, b := l.Sandbox(t, "h1", "a", "--network", "blue"), l.Sandbox(t, "h2", "b", "--network", "blue")
	complete(t, []labtest.Container{a, b})
	ping := a.StartPing(t, b.Addr(t))
	pids := func() string {
		return l.Run(t, "h1", "cat", "/run/ovl/agent.pid") + l.Run(t, "h2", "cat", "/run/ovl/agent.pid")
	}
	before := pids()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	l.Run(t, lab.Control, "env", poisonEnv+"="+addressOf(t, l, lab.Control).String(), "OVL_BIN_DIR="+os.Getenv("OVL_BIN_DIR"), self, "-test.run=^TestPoison$")
	labtest.Until(t, "the agents say what they do not believe", func() error {
		out := l.Do(t, "h1", "ovlctl", "agent", "status").Stdout + l.Do(t, "h2", "ovlctl", "agent", "status").Stdout
		if strings.Count(out, "ignored: ") < 4 {
			return errors.New(out)
		}
		return nil
	})
	// They work: what comes now is heard of and reached.
	c := l.Sandbox(t, "h2", "c", "--network", "blue")
	complete(t, []labtest.Container{a, b, c})
	atRest(t, l)
	ping.NoneLost(t)
	if after := pids(); after != before {
		t.Errorf("the agents were %q and are %q", before, after)
	}
	if r := l.Do(t, "h1", "ovlctl", "status"); r.Stdout == "" {
		t.Errorf("no status: %s", r.Stderr)
	}
}

// TestContainersKnock: a container reaches the ports of the control plane, as its host
// does, and is nobody there.
func TestContainersKnock(t *testing.T) {
	t.Parallel()
	c := newCourt(t, lab.Config{Hosts: 1})
	c.Run(t, "h1", "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16")
	mole := c.Sandbox(t, "h1", "mole", "--network", "blue")
	other, err := identity.NewAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	c.knockFrom("h1", []intruder{
		{Name: "plain text", Plain: true, api: "error reading server preface", etcd: "unreachable"},
		{Name: "no certificate", api: "no certificate was shown", etcd: "certificate required"},
		{Name: "a CA of its own", Pair: c.pair(other, identity.Admin, "local", time.Now(), time.Hour), api: "is of another cluster's CA", etcd: "unknown certificate authority"},
	}, "ovlctl", "exec", mole.Name, "--")
}
