package identity

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"fmt"
)

// NewRequest returns a request for a certificate of that key (PKCS #10, RFC
// 2986). It names nobody: who the holder is, the issuer decides.
func NewRequest(key crypto.Signer) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, fmt.Errorf("make certificate request: %w", err)
	}
	return der, nil
}

// Accept returns what an issuer answered to a request of that key, in DER: the
// certificate with the chain above it, and whom to trust. They hang together, and the
// holder has one of the wanted roles (none: any); whether that holds now is not asked,
// since the clock here may be wrong.
func Accept(chain, roots [][]byte, key crypto.Signer, want ...Role) (Pair, []*x509.Certificate, error) {
	trusted, err := ParseChain(roots)
	if err != nil {
		return Pair{}, nil, err
	}
	certs, err := ParseChain(chain)
	if err != nil {
		return Pair{}, nil, err
	}
	p, err := NewPair(certs, key)
	if err != nil {
		return Pair{}, nil, err
	}
	if _, err := Verify(certs, trusted, p.Leaf().NotAfter, want...); err != nil {
		return Pair{}, nil, err
	}
	return p, trusted, nil
}

// CheckRequest returns the key in a request, once its signature has proved that
// who sent it has the key. Everything else in the request is ignored.
func CheckRequest(der []byte) (crypto.PublicKey, Print, error) {
	if len(der) > MaxDER {
		return nil, Print{}, fmt.Errorf("parse certificate request: %d bytes, want at most %d", len(der), MaxDER)
	}
	r, err := x509.ParseCertificateRequest(der)
	if err == nil {
		err = checkKey(r.PublicKey)
	}
	if err == nil {
		err = r.CheckSignature()
	}
	if err != nil {
		return nil, Print{}, fmt.Errorf("parse certificate request: %w", err)
	}
	return r.PublicKey, PrintOf(&x509.Certificate{RawSubjectPublicKeyInfo: r.RawSubjectPublicKeyInfo}), nil
}
