package identity

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"time"
)

// Skew is how far a clock that verifies may be behind the one that issues:
// certificates begin that much before they are made.
const Skew = 10 * time.Minute

const authorityLife = 10 * 365 * 24 * time.Hour

// Authority issues certificates: the cluster's CA.
type Authority struct {
	// Chain begins with the certificate of the key; that one is what is
	// trusted, so that siblings under a common root of an organisation are
	// strangers.
	chain []*x509.Certificate
	key   crypto.Signer
}

// NewAuthority makes a CA.
func NewAuthority(now time.Time) (*Authority, error) {
	key, err := NewKey()
	if err != nil {
		return nil, fmt.Errorf("make CA: %w", err)
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "ovl CA"},
		NotBefore:             now.Add(-Skew),
		NotAfter:              now.Add(authorityLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
	}
	cert, err := sign(template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make CA: %w", err)
	}
	return &Authority{chain: []*x509.Certificate{cert}, key: key}, nil
}

// ParseAuthority reads a CA: its certificate, perhaps followed by those above
// it, and its key, in PEM.
func ParseAuthority(certPEM, keyPEM []byte, now time.Time) (*Authority, error) {
	certs, err := ParseCerts(certPEM)
	if err != nil {
		return nil, err
	}
	_, key, err := parsePEM(keyPEM)
	if err != nil {
		return nil, err
	}
	p, err := NewPair(certs, key)
	if err != nil {
		return nil, err
	}
	return AuthorityOf(p, now)
}

// AuthorityOf returns the CA with that certificate and key.
func AuthorityOf(p Pair, now time.Time) (*Authority, error) {
	ca := p.Leaf()
	switch {
	case !ca.BasicConstraintsValid || !ca.IsCA || ca.KeyUsage != 0 && ca.KeyUsage&x509.KeyUsageCertSign == 0:
		return nil, errors.New("the first certificate is no CA's: it may not sign others")
	case now.After(ca.NotAfter):
		return nil, fmt.Errorf("the CA expired at %s", instant(ca.NotAfter))
	case now.Before(ca.NotBefore):
		return nil, fmt.Errorf("the CA begins at %s: is this machine's clock right?", instant(ca.NotBefore))
	}
	return &Authority{chain: p.Chain, key: p.Key}, nil
}

// Encode returns what [ParseAuthority] reads.
func (a *Authority) Encode() (certPEM, keyPEM []byte, err error) {
	keyPEM, err = EncodeKey(a.key)
	return EncodeCerts(a.chain), keyPEM, err
}

// Roots returns whom to trust: this CA.
func (a *Authority) Roots() []*x509.Certificate { return a.chain[:1] }

// Print names the CA in tokens.
func (a *Authority) Print() Print { return PrintOf(a.chain[0]) }

// Names are the addresses of a server, for clients that compare them.
type Names struct {
	DNS   []string
	Addrs []netip.Addr
}

// Issue returns a certificate that says who its holder is, with the chain above
// it. It ends after life, or with the CA. Only a controller's has names.
func (a *Authority) Issue(who Who, public crypto.PublicKey, names Names, now time.Time, life time.Duration) ([]*x509.Certificate, error) {
	err := who.Check()
	if err == nil {
		err = checkKey(public)
	}
	if err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: who.CommonName(), Organization: []string{"ovl"}},
		NotBefore:   now.Add(-Skew),
		NotAfter:    now.Add(life),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		URIs:        []*url.URL{who.uri()},
	}
	if ca := a.chain[0]; template.NotAfter.After(ca.NotAfter) {
		template.NotAfter = ca.NotAfter
	}
	if who.Role == Controller {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
		template.DNSNames = names.DNS
		for _, addr := range names.Addrs {
			template.IPAddresses = append(template.IPAddresses, net.IP(addr.AsSlice()))
		}
	}
	cert, err := sign(template, a.chain[0], public, a.key)
	if err != nil {
		return nil, fmt.Errorf("issue certificate for %s: %w", who, err)
	}
	return append([]*x509.Certificate{cert}, a.chain...), nil
}

func sign(template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key) // with a random serial number
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// RenewAt is when a certificate is to be renewed: after half of its life.
func RenewAt(c *x509.Certificate) time.Time {
	issued := c.NotBefore.Add(Skew)
	return issued.Add(c.NotAfter.Sub(issued) / 2)
}

// instant is a time as errors write it.
func instant(t time.Time) string { return t.UTC().Format(time.RFC3339) }
