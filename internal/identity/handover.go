package identity

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
)

// handoverKind says what the name in a request is: that of the next key.
const handoverKind = "ovl: this key is followed by"

// NewHandover returns the word of a key that another one follows it, which is that of
// the request: a request (PKCS #10) too, signed by the old key, which names the next.
// Whoever hears it can do nothing with it but help the next key.
func NewHandover(old crypto.Signer, request []byte) ([]byte, error) {
	_, next, err := CheckRequest(request)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{Organization: []string{handoverKind}, CommonName: next.String()},
	}, old)
	if err != nil {
		return nil, fmt.Errorf("hand over to another key: %w", err)
	}
	return der, nil
}

// CheckHandover returns the key that handed over, if its word is for next.
func CheckHandover(der []byte, next Print) (Print, error) {
	_, old, err := CheckRequest(der)
	if err != nil {
		return Print{}, err
	}
	r, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return Print{}, fmt.Errorf("parse handover: %w", err)
	}
	if len(r.Subject.Organization) != 1 || r.Subject.Organization[0] != handoverKind || r.Subject.CommonName != next.String() {
		return Print{}, fmt.Errorf("parse handover: it is for another key: %q", clip(r.Subject.CommonName))
	}
	return old, nil
}
