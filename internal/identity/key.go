package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
)

// Print is SHA-256 of a public key as X.509 encodes it (SubjectPublicKeyInfo,
// RFC 5280 section 4.1.2.7). A certificate that is issued again for the same
// key keeps it.
type Print [sha256.Size]byte

// String returns the print as hexadecimal digits.
func (p Print) String() string { return hex.EncodeToString(p[:]) }

// ParsePrint reads what [Print.String] wrote.
func ParsePrint(s string) (Print, error) {
	var p Print
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(p) || hex.EncodeToString(b) != s {
		return Print{}, fmt.Errorf("fingerprint %q: want %d hexadecimal digits", clip(s), 2*len(p))
	}
	return Print(b), nil
}

// FormatPrints returns prints as [ParsePrints] reads them.
func FormatPrints(prints []Print) []string {
	var texts []string
	for _, p := range prints {
		texts = append(texts, p.String())
	}
	return texts
}

// ParsePrints reads the prints of at most as many certificates as a bundle has.
func ParsePrints(texts []string) ([]Print, error) {
	if len(texts) > maxCerts {
		return nil, fmt.Errorf("%d fingerprints, want at most %d", len(texts), maxCerts)
	}
	var prints []Print
	for _, s := range texts {
		p, err := ParsePrint(s)
		if err != nil {
			return nil, err
		}
		prints = append(prints, p)
	}
	return prints, nil
}

// PrintOf returns the print of a certificate's key.
func PrintOf(c *x509.Certificate) Print { return sha256.Sum256(c.RawSubjectPublicKeyInfo) }

// NewKey makes a key: ECDSA on P-256.
func NewKey() (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	return key, nil
}

// checkKey reports whether a public key is strong, and of a kind that TLS 1.3
// uses.
func checkKey(public crypto.PublicKey) error {
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() {
			return errors.New("key: want ECDSA on P-256 or P-384")
		}
	case ed25519.PublicKey:
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < 2048 || bits > 8192 {
			return fmt.Errorf("key: RSA of %d bits, want 2048 to 8192", bits)
		}
	default:
		return errors.New("key: want ECDSA, Ed25519 or RSA")
	}
	return nil
}

// sameKey reports whether a private key is that of a certificate.
func sameKey(c *x509.Certificate, key crypto.Signer) bool {
	own, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && own.Equal(c.PublicKey)
}
