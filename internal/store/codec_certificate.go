package store

import (
	"crypto/x509"
	"fmt"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/identity"
)

type certificateRecord struct {
	Host        cluster.HostID `json:"host"`
	Certificate []byte         `json:"certificate"` // DER
}

// EncodeCertificate returns the value of the record that names a host's key.
func EncodeCertificate(id cluster.HostID, c *x509.Certificate) ([]byte, error) {
	if _, err := cluster.ParseHostID(string(id)); err != nil {
		return nil, fmt.Errorf("encode certificate: %w", err)
	}
	return encode("certificate of "+string(id), certificateRecord{Host: id, Certificate: c.Raw})
}

// DecodeCertificate returns the host and the certificate in a record. Whether the
// certificate says that its key is the host's, [identity.CheckHolder] tells.
func DecodeCertificate(r Record) (cluster.HostID, *x509.Certificate, error) {
	id, err := ParseCertificateKey(r.Key)
	if err != nil {
		return "", nil, err
	}
	var rec certificateRecord
	if err := decode(r, &rec); err != nil {
		return "", nil, err
	}
	chain, err := identity.ParseChain([][]byte{rec.Certificate})
	if err == nil && rec.Host != id {
		err = errAgree
	}
	if err != nil {
		return "", nil, fmt.Errorf("decode %s: %w", clip(r.Key), err)
	}
	return id, chain[0], nil
}
