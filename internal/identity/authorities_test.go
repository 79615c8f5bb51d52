package identity_test

import (
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
	word, err := identity.NewHandover(p.Key, identity.Print{1})
	if err != nil {
		t.Fatal(err)
	}
	if old, err := identity.CheckHandover(word, identity.Print{1}); err != nil || old != identity.PrintOf(p.Leaf()) {
		t.Errorf("%v, %v", old, err)
	}
	if _, err := identity.CheckHandover(word, identity.Print{2}); err == nil {
		t.Error("a word for one key serves another one")
	}
	request, err := identity.NewRequest(p.Key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := identity.CheckHandover(request, identity.Print{1}); err == nil {
		t.Error("a request for a certificate is taken for a word")
	}
}
