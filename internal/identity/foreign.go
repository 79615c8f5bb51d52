package identity

import (
	"crypto/tls"
	"crypto/x509"
)

// Foreign returns the settings of a client of a server that is not the
// cluster's: an etcd with a CA of its own. The server's name or address is
// compared, as everywhere outside. What is not given is the cluster's own: an
// empty ca the roots, an empty cert the credential; an empty key is in cert's
// file.
func Foreign(ca, cert, key string, own *Credential) (*tls.Config, error) {
	if ca == "" {
		return ForeignTo(own.Roots(), cert, key, own)
	}
	roots, err := ReadCerts(ca)
	if err != nil {
		return nil, err
	}
	return ForeignTo(roots, cert, key, own)
}

// ReadCerts reads a bundle of certificates from a file.
func ReadCerts(path string) ([]*x509.Certificate, error) {
	data, err := Read(path)
	if err != nil {
		return nil, err
	}
	return ParseCerts(data)
}

// ForeignTo is [Foreign] for a CA that has been read.
func ForeignTo(roots []*x509.Certificate, cert, key string, own *Credential) (*tls.Config, error) {
	settings := own.Client()
	settings.InsecureSkipVerify, settings.VerifyConnection, settings.RootCAs = false, nil, pool(roots)
	if cert == "" {
		return settings, nil
	}
	p, err := ReadPair(cert, key)
	if err != nil {
		return nil, err
	}
	settings.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return p.tls(), nil }
	return settings, nil
}

// ReadPair reads a chain of certificates and the key of the first, from two files
// or, if key is empty, from one.
func ReadPair(cert, key string) (Pair, error) {
	if key == "" || key == cert {
		data, err := ReadKey(cert)
		if err != nil {
			return Pair{}, err
		}
		return ParsePair(data)
	}
	certPEM, err := Read(cert)
	if err != nil {
		return Pair{}, err
	}
	keyPEM, err := ReadKey(key)
	if err != nil {
		return Pair{}, err
	}
	certs, err := ParseCerts(certPEM)
	if err != nil {
		return Pair{}, err
	}
	_, k, err := parsePEM(keyPEM)
	if err != nil {
		return Pair{}, err
	}
	return NewPair(certs, k)
}
