package identity_test

import (
	"crypto"
	"crypto/x509"
	"testing"
	"time"

	"github.com/ovlnet/ovl/internal/identity"
)

// The way from one CA to the next, and who has followed.
func TestPhases(t *testing.T) {
	old, next := authority(t), authority(t)
	a := identity.NewAuthorities(old.Print(), now)
	of := func(ca *identity.Authority) []*x509.Certificate { return issue(t, ca, host(), now, time.Hour).Chain }
	spread := a.Begin(next.Print(), now)
	issuing := spread.Advance(now)
	rest := issuing.Drop(now)
	both, turned := append(old.Roots(), next.Roots()...), append(next.Roots(), old.Roots()...)
	for _, c := range []struct {
		name     string
		a        identity.Authorities
		shown    []*x509.Certificate
		roots    []*x509.Certificate
		followed bool
	}{
		{"at rest", a, of(old), old.Roots(), true},
		{"it does not trust the next", spread, of(old), old.Roots(), false},
		{"it trusts the next", spread, of(old), both, true},
		{"its certificate is of the old", issuing, of(old), turned, false},
		{"its certificate is of the next", issuing, of(next), turned, true},
		{"it trusts the old still", rest, of(next), turned, false},
		{"all done", rest, of(next), next.Roots(), true},
	} {
		if got := c.a.Followed(c.shown, c.roots); got != c.followed {
			t.Errorf("%s: followed %v", c.name, got)
		}
	}
	if spread.Newest() != next.Print() || issuing.Newest() != next.Print() || rest.Cluster != old.Print() {
		t.Errorf("%+v, %+v, %+v", spread, issuing, rest)
	}
	if at, ok := rest.DroppedAt(old.Print()); !ok || !at.Equal(now) {
		t.Errorf("dropped at %v, %v", at, ok)
	}
	if undone := spread.Drop(now); undone.Issuer() != old.Print() || len(undone.Dropped) != 0 {
		t.Errorf("given up: %+v", undone)
	}
}

// A server shows a certificate of the CA that a client asks for, while it has one: a
// token of before goes on.
func TestWishedCA(t *testing.T) {
	old, next := authority(t), authority(t)
	controller := identity.Who{Role: identity.Controller, Name: "c"}
	server := identity.NewCredential(issue(t, old, controller, now, time.Hour), old.Roots(), clock)
	server.Replace(issue(t, next, controller, now, time.Hour), append(next.Roots(), old.Roots()...), issue(t, old, controller, now, time.Hour))
	for _, c := range []struct {
		name string
		ca   identity.Print
		asks identity.Print
		says string // "" = content
	}{
		{"the old one", old.Print(), old.Print(), ""},
		{"the next one", next.Print(), next.Print(), ""},
		{"the old one, without asking", old.Print(), identity.Print{}, "has not the CA of the token"},
		{"a stranger's", identity.Print{9}, identity.Print{9}, "has not the CA of the token"},
	} {
		settings := identity.Pinned(c.ca, clock)
		settings.ServerName = identity.ServerName(c.asks)
		_, _, err := shake(t, server.Asking(), settings)
		check(t, c.name, err, c.says)
	}
	changed := server.Changed()
	server.Replace(issue(t, next, controller, now, time.Hour), next.Roots())
	<-changed
	settings := identity.Pinned(old.Print(), clock)
	settings.ServerName = identity.ServerName(old.Print())
	_, _, err := shake(t, server.Asking(), settings)
	check(t, "the old one, when it is dropped", err, "has not the CA of the token")
}

// The key of before vouches for the next one, and for no other.
func TestHandover(t *testing.T) {
	p := issue(t, authority(t), host(), now, time.Hour)
	word, next := handover(t, p.Key)
	if old, err := identity.CheckHandover(word, next); err != nil || old != identity.PrintOf(p.Leaf()) {
		t.Errorf("%v, %v", old, err)
	}
	if _, err := identity.CheckHandover(word, identity.Print{2}); err == nil {
		t.Error("a word for one key serves another one")
	}
	request, err := identity.NewRequest(p.Key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := identity.CheckHandover(request, next); err == nil {
		t.Error("a request for a certificate is taken for a word")
	}
	if _, err := identity.NewHandover(p.Key, word[1:]); err == nil {
		t.Error("a word for nobody's key")
	}
}

// handover returns the word of a key for a new one, and that one's print.
func handover(t testing.TB, old crypto.Signer) (word []byte, next identity.Print) {
	t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	request, err := identity.NewRequest(key)
	if err != nil {
		t.Fatal(err)
	}
	if word, err = identity.NewHandover(old, request); err != nil {
		t.Fatal(err)
	}
	_, next, err = identity.CheckRequest(request)
	if err != nil {
		t.Fatal(err)
	}
	return word, next
}

// What an issuer answers is taken if it hangs together: the certificate is of the key,
// of whom is to be trusted, and for the role; the clock here may be wrong.
func TestAccept(t *testing.T) {
	own, other := authority(t), authority(t)
	p := issue(t, own, host(), now.Add(24*time.Hour), time.Hour)
	chain, roots := identity.DER(p.Chain), identity.DER(own.Roots())
	for _, c := range []struct {
		name         string
		chain, roots [][]byte
		key          crypto.Signer
		want         []identity.Role
		says         string // "" = taken
	}{
		{"any role", chain, roots, p.Key, nil, ""},
		{"its role", chain, roots, p.Key, []identity.Role{identity.Host}, ""},
		{"another role", chain, roots, p.Key, []identity.Role{identity.Admin}, "of another role"},
		{"another key", chain, roots, issue(t, own, host(), now, time.Hour).Key, nil, "do not belong together"},
		{"another CA", chain, identity.DER(other.Roots()), p.Key, nil, "of another cluster's CA"},
		{"nothing", nil, roots, p.Key, nil, "0 of them"},
		{"nobody to trust", chain, nil, p.Key, nil, "0 of them"},
	} {
		got, trusted, err := identity.Accept(c.chain, c.roots, c.key, c.want...)
		check(t, c.name, err, c.says)
		if err == nil && (!got.Leaf().Equal(p.Leaf()) || !trusted[0].Equal(own.Roots()[0])) {
			t.Errorf("%s: %v, %v", c.name, got.Leaf().Subject, trusted[0].Subject)
		}
	}
}
