package identity_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/identity"
)

var place = identity.Place{Key: "/ovl/v1/subnets/blue/10.64.1.0-24", Lease: -7}

const value = `{"network":"blue","prefix":"10.64.1.0/24"}`

func TestSeal(t *testing.T) {
	p := issue(t, authority(t), host(), now, time.Hour)
	sealed, err := identity.Seal(p.Key, place, []byte(value))
	if err != nil {
		t.Fatal(err)
	}
	if got, signature := identity.Unseal(sealed); string(got) != value || signature == nil {
		t.Errorf("%q, %x", got, signature)
	}
	if again, err := identity.Seal(p.Key, place, []byte(value)); err != nil || !bytes.Equal(again, sealed) {
		t.Errorf("another seal of the same: %q, %v", again, err)
	}
	public := p.Leaf().PublicKey
	if err := identity.CheckSeal(public, place, sealed); err != nil {
		t.Error(err)
	}
	altered := bytes.Replace(sealed, []byte("10.64.1"), []byte("10.64.2"), 1)
	wide, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var w identity.Witness
	for name, c := range map[string]struct {
		public any
		at     identity.Place
		sealed []byte
		want   error
	}{
		"a value alone":  {public, place, []byte(value), identity.ErrUnsealed},
		"nothing":        {public, place, nil, identity.ErrUnsealed},
		"a line feed":    {public, place, []byte(value + "\n"), identity.ErrUnsealed},
		"other text":     {public, place, []byte(value + "\nx y"), identity.ErrUnsealed},
		"an empty one":   {public, place, []byte(value + "\nAAAA"), identity.ErrForged},
		"altered":        {public, place, altered, identity.ErrForged},
		"another key":    {public, identity.Place{Key: place.Key + "0", Lease: place.Lease}, sealed, identity.ErrForged},
		"another lease":  {public, identity.Place{Key: place.Key, Lease: 7}, sealed, identity.ErrForged},
		"another's":      {issue(t, authority(t), host(), now, time.Hour).Leaf().PublicKey, place, sealed, identity.ErrForged},
		"another curve":  {wide.Public(), place, sealed, identity.ErrForged},
		"no key of ours": {"x", place, sealed, identity.ErrForged},
	} {
		if err := identity.CheckSeal(c.public, c.at, c.sealed); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		for range 2 { // the second time from memory
			if err := w.Check(c.public, identity.Print{}, c.at, c.sealed); !errors.Is(err, c.want) && name != "another's" && name != "another curve" && name != "no key of ours" {
				t.Errorf("%s: witness: %v, want %v", name, err, c.want)
			}
		}
	}
	if sealed, err = identity.Seal(wide, place, []byte(value)); err != nil {
		t.Fatal(err)
	}
	if err := identity.CheckSeal(wide.Public(), place, sealed); err != nil {
		t.Errorf("P-384: %v", err)
	}
}

// A witness tells apart what differs in anything.
func TestWitness(t *testing.T) {
	ca := authority(t)
	a, b := issue(t, ca, host(), now, time.Hour), issue(t, ca, host(), now, time.Hour)
	sealed, err := identity.Seal(a.Key, place, []byte(value))
	if err != nil {
		t.Fatal(err)
	}
	var w identity.Witness
	for range 3 {
		for _, c := range []struct {
			by identity.Pair
			at identity.Place
			ok bool
		}{{a, place, true}, {b, place, false}, {a, identity.Place{Key: place.Key}, false}} {
			if err := w.Check(c.by.Leaf().PublicKey, identity.PrintOf(c.by.Leaf()), c.at, sealed); (err == nil) != c.ok {
				t.Errorf("%v, want %v", err, c.ok)
			}
		}
	}
}

func TestCheckHolder(t *testing.T) {
	own, other := authority(t), authority(t)
	id := cluster.HostID(hostID)
	good := issue(t, own, host(), now, time.Hour).Leaf()
	if err := identity.CheckHolder(good, own.Roots(), id); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"another host": identity.CheckHolder(good, own.Roots(), "00000000000000000000000000000001"),
		"another CA":   identity.CheckHolder(good, other.Roots(), id),
		"a person":     identity.CheckHolder(issue(t, own, identity.Who{Role: identity.Admin, Name: "ann"}, now, time.Hour).Leaf(), own.Roots(), id),
		"a CA":         identity.CheckHolder(own.Roots()[0], own.Roots(), id),
	} {
		if err == nil {
			t.Errorf("%s holds the host's key", name)
		}
	}
}

// Nothing but what was signed has a seal that holds, and what has one is read as
// it was written.
func FuzzSeal(f *testing.F) {
	p := issue(f, authority(f), host(), now, time.Hour)
	sealed, err := identity.Seal(p.Key, place, []byte(value))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(place.Key, place.Lease, sealed)
	f.Add(place.Key, int64(0), []byte("\n"+string(sealed)))
	f.Add("", int64(1), []byte("{}\nMAYCAQECAQE"))
	f.Fuzz(func(t *testing.T, key string, lease int64, data []byte) {
		at := identity.Place{Key: key, Lease: lease}
		got, signature := identity.Unseal(data)
		if !bytes.HasPrefix(data, got) || (signature == nil) != (len(got) == len(data)) {
			t.Fatalf("%q is %q and %x", data, got, signature)
		}
		err := identity.CheckSeal(p.Leaf().PublicKey, at, data)
		// ECDSA has two signatures of each text: what was signed is what counts.
		if err == nil && (at != place || string(got) != value) {
			t.Fatalf("a forged record at %v: %q", at, data)
		}
		again, err := identity.Seal(p.Key, at, data)
		if err != nil {
			t.Fatal(err)
		}
		if err := identity.CheckSeal(p.Leaf().PublicKey, at, again); err != nil {
			t.Fatalf("%q: %v", again, err)
		}
		if back, _ := identity.Unseal(again); !bytes.Equal(back, data) {
			t.Fatalf("%q comes back as %q", data, back)
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	p := issue(b, authority(b), host(), now, time.Hour)
	sealed, err := identity.Seal(p.Key, place, []byte(value))
	if err != nil {
		b.Fatal(err)
	}
	public := p.Leaf().PublicKey
	b.Run("sign", func(b *testing.B) {
		for b.Loop() {
			if _, err := identity.Seal(p.Key, place, []byte(value)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("verify", func(b *testing.B) {
		for b.Loop() {
			if err := identity.CheckSeal(public, place, sealed); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("remembered", func(b *testing.B) {
		var w identity.Witness
		key := identity.PrintOf(p.Leaf())
		for b.Loop() {
			if err := w.Check(public, key, place, sealed); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("certificate", func(b *testing.B) {
		ca := authority(b)
		leaf := issue(b, ca, host(), now, time.Hour).Leaf()
		for b.Loop() {
			if err := identity.CheckHolder(leaf, ca.Roots(), cluster.HostID(hostID)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
