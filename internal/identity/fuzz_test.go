package identity_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/ovlnet/ovl/internal/identity"
)

// What parses as a pair is written and read again as the same.
func FuzzParsePair(f *testing.F) {
	data, err := identity.EncodePair(issue(f, authority(f), host(), now, time.Hour))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add(bytes.Repeat([]byte("-----BEGIN CERTIFICATE-----\n"), 9))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := identity.ParsePair(data)
		if err != nil {
			return
		}
		again, err := identity.EncodePair(p)
		if err != nil {
			t.Fatal(err)
		}
		q, err := identity.ParsePair(again)
		if err != nil || !q.Leaf().Equal(p.Leaf()) {
			t.Fatalf("%v, %v", q, err)
		}
	})
}

// No certificate but an issued one verifies, whatever is in it.
func FuzzVerify(f *testing.F) {
	own, other := authority(f), authority(f)
	good := issue(f, own, host(), now, time.Hour)
	f.Add(good.Leaf().Raw)
	f.Add(issue(f, other, host(), now, time.Hour).Leaf().Raw)
	f.Fuzz(func(t *testing.T, der []byte) {
		chain, err := identity.ParseChain([][]byte{der})
		if err != nil {
			return
		}
		who, err := identity.Verify(chain, own.Roots(), now)
		// ECDSA has two signatures of each text: what was signed is what counts.
		if err == nil && !bytes.Equal(chain[0].RawTBSCertificate, good.Leaf().RawTBSCertificate) {
			t.Fatalf("a forged certificate is %s", who)
		}
		if err != nil && identity.FaultOf(err) == "" {
			t.Fatalf("refused without a fault: %v", err)
		}
	})
}

func FuzzCheckRequest(f *testing.F) {
	key, err := identity.NewKey()
	if err != nil {
		f.Fatal(err)
	}
	der, err := identity.NewRequest(key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	f.Fuzz(func(t *testing.T, der []byte) {
		public, _, err := identity.CheckRequest(der)
		if (err == nil) != (public != nil) {
			t.Fatalf("key %v, error %v", public, err)
		}
	})
}

// A token has one spelling.
func FuzzParseToken(f *testing.F) {
	f.Add(identity.NewToken(identity.Print{1}).String())
	f.Add("ovl1---")
	f.Fuzz(func(t *testing.T, text string) {
		tok, err := identity.ParseToken(text)
		if err != nil {
			return
		}
		if again, err := identity.ParseToken(tok.String()); err != nil || again != tok {
			t.Fatalf("%v, %v", again, err)
		}
	})
}

// What parses as the CAs in force is written and read again as the same.
func FuzzParseAuthorities(f *testing.F) {
	a := identity.NewAuthorities(identity.Print{1}, now)
	for _, a := range []identity.Authorities{a, a.Begin(identity.Print{2}, now), a.Begin(identity.Print{2}, now).Advance(now), a.Begin(identity.Print{2}, now).Advance(now).Drop(now)} {
		value, err := a.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := identity.ParseAuthorities(data)
		if err != nil {
			return
		}
		again, err := a.Encode()
		if err != nil {
			t.Fatal(err)
		}
		b, err := identity.ParseAuthorities(again)
		if err != nil || identity.Text(b.Trusted) != identity.Text(a.Trusted) || b.Phase != a.Phase || b.Cluster != a.Cluster {
			t.Fatalf("%+v, %v; want %+v", b, err, a)
		}
		_, _ = a.Newest(), a.Issuer()
	})
}

// A word of a key is for one other key alone.
func FuzzCheckHandover(f *testing.F) {
	old, err := identity.NewKey()
	if err != nil {
		f.Fatal(err)
	}
	der, next := handover(f, old)
	f.Add(der)
	f.Fuzz(func(t *testing.T, der []byte) {
		if _, err := identity.CheckHandover(der, identity.Print{2}); err == nil {
			t.Fatal("taken for another key")
		}
		_, _ = identity.CheckHandover(der, next)
	})
}
