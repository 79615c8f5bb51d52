package identity_test

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/ovlnet/ovl/internal/identity"
)

var (
	now    = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	hostID = strings.Repeat("ab", 16)
)

func authority(t testing.TB) *identity.Authority {
	t.Helper()
	a, err := identity.NewAuthority(now)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// issue returns a certificate of a new key.
func issue(t testing.TB, a *identity.Authority, who identity.Who, at time.Time, life time.Duration) identity.Pair {
	t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	chain, err := a.Issue(who, key.Public(), identity.Names{}, at, life)
	if err != nil {
		t.Fatal(err)
	}
	return identity.Pair{Chain: chain, Key: key}
}

func host() identity.Who { return identity.Who{Role: identity.Host, Name: hostID} }

func TestVerify(t *testing.T) {
	own, other := authority(t), authority(t)
	good := issue(t, own, host(), now, time.Hour)
	for _, c := range []struct {
		name  string
		chain []*x509.Certificate
		at    time.Time
		want  []identity.Role
		fault identity.Fault
		says  string
	}{
		{name: "good", chain: good.Chain, at: now},
		{name: "good of the role", chain: good.Chain, at: now, want: []identity.Role{identity.Admin, identity.Host}},
		{name: "a clock behind", chain: good.Chain, at: now.Add(-identity.Skew)},
		{name: "none", at: now, fault: identity.Missing, says: "no certificate"},
		{name: "expired", chain: good.Chain, at: now.Add(time.Hour + time.Second), fault: identity.Expired, says: "expired at 2030-01-02T04:04:05Z"},
		{name: "not yet", chain: good.Chain, at: now.Add(-identity.Skew - time.Second), fault: identity.NotYetValid, says: "compare the clocks"},
		{name: "other CA", chain: issue(t, other, host(), now, time.Hour).Chain, at: now, fault: identity.WrongCA, says: own.Print().String()},
		{name: "without its CA", chain: issue(t, other, host(), now, time.Hour).Chain[:1], at: now, fault: identity.WrongCA, says: "another cluster's CA"},
		{name: "other role", chain: good.Chain, at: now, want: []identity.Role{identity.Admin, identity.Operator}, fault: identity.WrongRole, says: "want admin or operator"},
		{name: "the CA itself", chain: own.Roots(), at: now, fault: identity.Malformed},
		{name: "long", chain: append(good.Chain, make([]*x509.Certificate, 9)...), at: now, fault: identity.Malformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			who, err := identity.Verify(c.chain, own.Roots(), c.at, c.want...)
			if got := identity.FaultOf(err); got != c.fault {
				t.Fatalf("%v, fault %q, want %q", err, got, c.fault)
			}
			if err == nil && who != host() {
				t.Errorf("it is %s", who)
			}
			if err != nil && (!strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n")) {
				t.Errorf("says %q, want %q in one line", err, c.says)
			}
		})
	}
}

func TestIssueRefuses(t *testing.T) {
	a := authority(t)
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	for _, who := range []identity.Who{{}, {Role: identity.Host, Name: "h1"}, {Role: "root", Name: "x"}, {Role: identity.Admin, Name: "a/b"}, {Role: identity.Admin}} {
		if _, err := a.Issue(who, key.Public(), identity.Names{}, now, time.Hour); err == nil {
			t.Errorf("issued for %q", who)
		}
	}
}

func TestRenewAtHalfLife(t *testing.T) {
	p := issue(t, authority(t), host(), now, 30*24*time.Hour)
	if got, want := identity.RenewAt(p.Leaf()), now.Add(15*24*time.Hour); !got.Equal(want) {
		t.Errorf("renew at %s, want %s", got, want)
	}
}

func TestAuthorityRoundTrip(t *testing.T) {
	a := authority(t)
	cert, key, err := a.Encode()
	if err != nil {
		t.Fatal(err)
	}
	b, err := identity.ParseAuthority(cert, key, now)
	if err != nil {
		t.Fatal(err)
	}
	if b.Print() != a.Print() {
		t.Error("another fingerprint")
	}
	_, otherKey, err := authority(t).Encode()
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := identity.EncodePair(issue(t, a, host(), now, time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name      string
		cert, key []byte
		at        time.Time
		says      string
	}{
		{"another key", cert, otherKey, now, "do not belong together"},
		{"no key", cert, cert, now, "no private key"},
		{"no certificate", nil, key, now, "none there"},
		{"the key beside", append(cert, key...), key, now, "remove it"},
		{"no CA", identity.EncodeCerts(issue(t, a, host(), now, time.Hour).Chain), leaf, now, "belong together"},
		{"expired", cert, key, now.Add(11 * 365 * 24 * time.Hour), "expired"},
		{"to come", cert, key, now.Add(-time.Hour), "clock"},
	} {
		if _, err := identity.ParseAuthority(c.cert, c.key, c.at); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", c.name, err, c.says)
		}
	}
	p := issue(t, a, host(), now, time.Hour)
	keyPEM, err := identity.EncodeKey(p.Key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := identity.ParseAuthority(identity.EncodeCerts(p.Chain), keyPEM, now); err == nil || !strings.Contains(err.Error(), "no CA's") {
		t.Errorf("a host's certificate as CA: %v", err)
	}
}

func TestRequest(t *testing.T) {
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	der, err := identity.NewRequest(key)
	if err != nil {
		t.Fatal(err)
	}
	public, hash, err := identity.CheckRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := authority(t).Issue(host(), public, identity.Names{}, now, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if identity.PrintOf(chain[0]) != hash {
		t.Error("the certificate has another print than the request")
	}
	der[len(der)-1] ^= 1 // of the signature
	if _, _, err := identity.CheckRequest(der); err == nil {
		t.Error("a request is accepted whose signature is wrong")
	}
}

func TestToken(t *testing.T) {
	tok := identity.NewToken(authority(t).Print())
	got, err := identity.ParseToken(" " + tok.String() + "\n")
	if err != nil || got != tok {
		t.Fatalf("%v, %v; want %v", got, err, tok)
	}
	if !identity.Matches(identity.Hash(tok.Secret), tok.Secret) || identity.Matches(identity.Hash(tok.Secret), tok.ID) {
		t.Error("the hash does not tell its secret from others")
	}
	text := tok.String()
	for _, bad := range []string{"", "ovl1", text[:len(text)-1], text + "a", strings.ToUpper(text), "ovl2" + text[4:], strings.Replace(text, "-", "-1", 1), text[:len(text)-1] + "9"} {
		if _, err := identity.ParseToken(bad); err == nil {
			t.Errorf("%q is a token", bad)
		} else if len(bad) > 40 && strings.Contains(err.Error(), tok.Secret) {
			t.Errorf("the error quotes the secret: %v", err)
		}
	}
}
