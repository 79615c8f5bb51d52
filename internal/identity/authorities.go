package identity

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Phase is how far the change from one CA to the next has come.
type Phase string

// The phases. At rest there is one CA. While the next one is spread the old one
// issues, and everybody learns to trust both; then the next one issues, and what
// the old one issued is still good until it is dropped.
const (
	Rest   Phase = ""
	Spread Phase = "spread"
	Issue  Phase = "issue"
)

// Authorities says which CAs a cluster trusts now. It is a fact of the store,
// and names them only: nobody trusts a CA because the store says so.
type Authorities struct {
	Cluster Print   // the CA that the cluster began with: names it for good
	Trusted []Print // the first one issues; one at rest, else two
	Phase   Phase
	Since   time.Time // of the phase
	Dropped []Dropped // those of before, the last one first
}

// Dropped is a CA that is no longer trusted.
type Dropped struct {
	Print Print
	At    time.Time
}

// The bounds of the record.
const (
	maxAuthorities = 8 << 10 // bytes
	maxDropped     = 16
)

// NewAuthorities is a cluster that begins with a CA.
func NewAuthorities(ca Print, now time.Time) Authorities {
	return Authorities{Cluster: ca, Trusted: []Print{ca}, Since: now}
}

type authoritiesRecord struct {
	Print   string          `json:"fingerprint"` // of the one that issues
	Also    string          `json:"also,omitempty"`
	Phase   Phase           `json:"phase,omitempty"`
	Since   time.Time       `json:"since,omitzero"`
	Cluster string          `json:"cluster,omitempty"` // empty: Print
	Dropped []droppedRecord `json:"dropped,omitempty"`
}

type droppedRecord struct {
	Print string    `json:"fingerprint"`
	At    time.Time `json:"at"`
}

// Encode returns what [ParseAuthorities] reads.
func (a Authorities) Encode() ([]byte, error) {
	if err := a.check(); err != nil {
		return nil, fmt.Errorf("encode CAs: %w", err)
	}
	rec := authoritiesRecord{Print: a.Issuer().String(), Phase: a.Phase, Since: a.Since.UTC(), Cluster: a.Cluster.String()}
	if len(a.Trusted) > 1 {
		rec.Also = a.Trusted[1].String()
	}
	for _, d := range a.Dropped[:min(len(a.Dropped), maxDropped)] {
		rec.Dropped = append(rec.Dropped, droppedRecord{Print: d.Print.String(), At: d.At.UTC()})
	}
	return json.Marshal(rec)
}

// ParseAuthorities reads a record of the store, which is hostile input.
func ParseAuthorities(data []byte) (Authorities, error) {
	a, err := parseAuthorities(data)
	if err != nil {
		return Authorities{}, fmt.Errorf("parse CAs: %w", err)
	}
	return a, nil
}

func parseAuthorities(data []byte) (Authorities, error) {
	if len(data) > maxAuthorities {
		return Authorities{}, fmt.Errorf("%d bytes, want at most %d", len(data), maxAuthorities)
	}
	var rec authoritiesRecord
	if err := json.Unmarshal(data, &rec); err != nil {
		return Authorities{}, err
	}
	if len(rec.Dropped) > maxDropped {
		return Authorities{}, fmt.Errorf("%d dropped, want at most %d", len(rec.Dropped), maxDropped)
	}
	a := Authorities{Phase: rec.Phase, Since: rec.Since.UTC()}
	var errs []error
	read := func(s string) Print {
		p, err := ParsePrint(s)
		errs = append(errs, err)
		return p
	}
	a.Trusted = []Print{read(rec.Print)}
	if rec.Also != "" {
		a.Trusted = append(a.Trusted, read(rec.Also))
	}
	if a.Cluster = a.Trusted[0]; rec.Cluster != "" {
		a.Cluster = read(rec.Cluster)
	}
	for _, d := range rec.Dropped {
		a.Dropped = append(a.Dropped, Dropped{Print: read(d.Print), At: d.At.UTC()})
	}
	return a, errors.Join(append(errs, a.check())...)
}

// check reports whether the phase and the CAs fit.
func (a Authorities) check() error {
	want := 2
	switch a.Phase {
	case Rest:
		want = 1
	case Spread, Issue:
	default:
		return fmt.Errorf("phase %q: want spread, issue or none", clip(string(a.Phase)))
	}
	if len(a.Trusted) != want || want == 2 && a.Trusted[0] == a.Trusted[1] {
		return fmt.Errorf("phase %q with %d CAs: want %d different ones", a.Phase, len(a.Trusted), want)
	}
	return nil
}

// Issuer is the CA that issues.
func (a Authorities) Issuer() Print { return a.Trusted[0] }

// Newest is the CA that will be there for longest: tokens name it.
func (a Authorities) Newest() Print {
	if a.Phase == Spread {
		return a.Trusted[1]
	}
	return a.Trusted[0]
}

// DroppedAt returns when a CA was dropped.
func (a Authorities) DroppedAt(p Print) (time.Time, bool) {
	i := slices.IndexFunc(a.Dropped, func(d Dropped) bool { return d.Print == p })
	if i < 0 {
		return time.Time{}, false
	}
	return a.Dropped[i].At, true
}

// Begin is the state after this in which next is spread.
func (a Authorities) Begin(next Print, now time.Time) Authorities {
	a.Trusted, a.Phase, a.Since = []Print{a.Issuer(), next}, Spread, now
	return a
}

// Advance is the state in which next issues.
func (a Authorities) Advance(now time.Time) Authorities {
	a.Trusted, a.Phase, a.Since = []Print{a.Trusted[1], a.Trusted[0]}, Issue, now
	return a
}

// Drop is the state in which the second CA is none any more.
func (a Authorities) Drop(now time.Time) Authorities {
	if a.Phase == Issue {
		a.Dropped = append([]Dropped{{Print: a.Trusted[1], At: now}}, a.Dropped[:min(len(a.Dropped), maxDropped-1)]...)
	}
	a.Trusted, a.Phase, a.Since = a.Trusted[:1:1], Rest, now
	return a
}

// Followed reports whether who trusts roots, and shows a certificate, has
// followed: nothing would be better if he renewed now.
func (a Authorities) Followed(shown, roots []*x509.Certificate) bool {
	return slices.Equal(Prints(roots), a.Trusted) && IssuerOf(shown, roots) == a.Issuer()
}

// Header is the metadata of each answer of a controller that tells the CAs in force,
// as [Text] has them.
const Header = "ovl-authorities"

// Text is prints as one word.
func Text(prints []Print) string { return strings.Join(FormatPrints(prints), ",") }

// Prints are those of certificates.
func Prints(certs []*x509.Certificate) []Print {
	var all []Print
	for _, c := range certs {
		all = append(all, PrintOf(c))
	}
	return all
}

// IssuerOf returns which of the roots signed a certificate, which comes first in
// its chain, or none.
func IssuerOf(chain, roots []*x509.Certificate) Print {
	for _, r := range roots {
		if len(chain) > 0 && chain[0].CheckSignatureFrom(r) == nil {
			return PrintOf(r)
		}
	}
	return Print{}
}

// serverDomain ends the name by which a client asks a server for a certificate
// of one CA.
const serverDomain = ".ca.ovl.internal"

// ServerName is what a client says in its first message (RFC 6066 section 3) to
// be shown a certificate of that CA, as long as there is one. It is a wish: what
// counts is what the client trusts.
func ServerName(ca Print) string { return words.EncodeToString(ca[:]) + serverDomain }

// wished returns the CA in a server name.
func wished(name string) (Print, bool) {
	word, ok := strings.CutSuffix(name, serverDomain)
	if !ok {
		return Print{}, false
	}
	b, ok := decode(word, len(Print{}))
	if !ok {
		return Print{}, false
	}
	return Print(b), true
}
