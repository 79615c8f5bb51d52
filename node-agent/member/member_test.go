package member

import (
	"crypto"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/identity"
)

const self = cluster.HostID("0000000000000000000000000000000a")

func TestEndpoints(t *testing.T) {
	for _, c := range []struct {
		name       string
		urls       []string
		controller string
		want       []string // nil: refused
	}{
		{"named", []string{"https://10.0.0.1:6779"}, "ctl:6790", []string{"https://10.0.0.1:6779"}},
		{"where the controller is", []string{"https://:6779"}, "ctl:6790", []string{"https://ctl:6779"}},
		{"where it is, over IPv6", []string{"https://:6779"}, "[fd00::1]:6790", []string{"https://[fd00::1]:6779"}},
		{"several", []string{"https://a:1", "https://b:1"}, "ctl:6790", []string{"https://a:1", "https://b:1"}},
		{"none", nil, "ctl:6790", nil},
		{"plain text", []string{"http://10.0.0.1:6779"}, "ctl:6790", nil},
		{"no port", []string{"https://10.0.0.1"}, "ctl:6790", nil},
		{"no URL", []string{"\x00"}, "ctl:6790", nil},
		{"very many", make([]string, 100), "ctl:6790", nil},
	} {
		got, err := endpoints(c.urls, c.controller)
		if (err == nil) != (c.want != nil) || !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, %v; want %q", c.name, got, err, c.want)
		}
	}
}

func pair(t *testing.T, who identity.Who) (identity.Pair, *identity.Authority) {
	t.Helper()
	ca, err := identity.NewAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	chain, err := ca.Issue(who, key.Public(), identity.Names{}, time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return identity.Pair{Chain: chain, Key: key}, ca
}

func TestOpen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "identity")
	if _, err := Open(dir, self, time.Now); !errors.Is(err, ErrNotJoined) {
		t.Fatalf("nothing there: %v", err)
	}
	p, ca := pair(t, identity.Who{Role: identity.Host, Name: string(self)})
	where := Cluster{Name: "h1", Controllers: []string{"ctl:6790"}, Etcd: []string{"https://ctl:6779"}}
	if err := save(dir, where, p, identity.EncodeCerts(ca.Roots())); err != nil {
		t.Fatal(err)
	}
	m, err := Open(dir, self, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if m.Cluster.Name != "h1" || !m.Credential.Pair().Leaf().Equal(p.Leaf()) {
		t.Errorf("%+v", m)
	}
	if _, err := Open(dir, "0000000000000000000000000000000b", time.Now); err == nil || !strings.Contains(err.Error(), "join again") {
		t.Errorf("another host's: %v", err)
	}
	person, other := pair(t, identity.Who{Role: identity.Viewer, Name: "ann"})
	elsewhere := filepath.Join(t.TempDir(), "identity")
	if err := save(elsewhere, where, person, identity.EncodeCerts(other.Roots())); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(elsewhere, self, time.Now); err == nil || !strings.Contains(err.Error(), "it is of viewer ann") {
		t.Errorf("of another role: %v", err)
	}
	// A join of the token's cluster finds what is there, without a word to anybody.
	join := Config{Dir: dir, Host: self, Name: "h1", Controller: "127.0.0.1:1", Token: identity.NewToken(ca.Print()), Now: time.Now}
	if _, err := Join(t.Context(), join); err != nil {
		t.Errorf("join again: %v", err)
	}
	// Of another CA's token only the controller can tell whether it is the cluster's.
	join.Token.CA = identity.Print{1}
	if _, err := Join(t.Context(), join); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("join with a token of another CA: %v", err)
	}
	// The pair is what says that a host has joined: whatever else a crash left.
	if err := os.Remove(filepath.Join(dir, pairFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, self, time.Now); !errors.Is(err, ErrNotJoined) {
		t.Errorf("without the pair: %v", err)
	}
}

// The key of a join whose answer was lost is used again: the controller knows it.
func TestKeyOfALostJoin(t *testing.T) {
	c := Config{Dir: t.TempDir()}
	first, err := c.key()
	if err != nil {
		t.Fatal(err)
	}
	second, err := c.key()
	if err != nil {
		t.Fatal(err)
	}
	if !first.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(second.Public()) {
		t.Error("another key")
	}
}

// Hosts that joined together do not renew together, and all well in time.
func TestDue(t *testing.T) {
	seen := map[time.Duration]bool{}
	for range 20 {
		p, _ := pair(t, identity.Who{Role: identity.Host, Name: string(self)})
		due := new(Member).due(p.Leaf()).Sub(p.Leaf().NotBefore.Add(identity.Skew))
		if due < 30*time.Minute || due > 36*time.Minute {
			t.Errorf("due after %v of an hour", due)
		}
		seen[due.Truncate(time.Second)] = true
	}
	if len(seen) < 5 {
		t.Errorf("twenty hosts renew at %d times", len(seen))
	}
}

func FuzzParseCluster(f *testing.F) {
	for _, seed := range []string{
		`{"name":"h1","controllers":["c:6790"],"etcd":["https://c:6779"]}`,
		`{"name":"h1","controllers":["10.0.0.1:6790","[fd00::1]:6790"],"etcd":["https://10.0.0.1:6779","https://[fd00::1]:6779"]}`,
		`{"name":"-h1","controllers":["c:6790"],"etcd":["https://c:6779"]}`,
		`{"name":"h1","controllers":["c"],"etcd":["unix:///run/etcd.sock"]}`,
		`{"name":"h1","etcd":["http://c:6779"]}`, `{"name":"h1","controllers":null,"etcd":[""]}`, `[]`, `null`, "",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseCluster(data)
		if err == nil && (cluster.CheckName(c.Name) != nil || len(c.Etcd) == 0 || len(c.Controllers) > maxTargets) {
			t.Errorf("%+v", c)
		}
	})
}
