package identity

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// The bounds of what is parsed.
const (
	MaxPEM     = 64 << 10 // bytes of a file
	MaxDER     = 16 << 10 // bytes of one certificate or request
	maxCerts   = 8        // in a chain or a bundle
	blockCert  = "CERTIFICATE"
	blockKey   = "PRIVATE KEY" // PKCS #8, RFC 5958
	blockECKey = "EC PRIVATE KEY"
	blockRSA   = "RSA PRIVATE KEY"
)

// Pair is a certificate with the chain above it, and its key.
type Pair struct {
	Chain []*x509.Certificate // the holder's first; never empty
	Key   crypto.Signer
}

// Leaf returns the holder's certificate.
func (p Pair) Leaf() *x509.Certificate { return p.Chain[0] }

// Who returns what the certificate says, whoever issued it.
func (p Pair) Who() (Who, error) { return whoIs(p.Leaf()) }

func (p Pair) tls() *tls.Certificate {
	return &tls.Certificate{Certificate: DER(p.Chain), PrivateKey: p.Key, Leaf: p.Leaf()}
}

// ParseCerts reads a bundle of certificates in PEM: at least one, and nothing else.
func ParseCerts(data []byte) ([]*x509.Certificate, error) {
	certs, key, err := parsePEM(data)
	switch {
	case err != nil:
		return nil, err
	case key != nil:
		return nil, errors.New("parse certificates: a private key is among them: remove it")
	case len(certs) == 0:
		return nil, errors.New("parse certificates: none there, want PEM")
	}
	return certs, nil
}

// ParsePair reads a chain of certificates and the key of the first, in PEM.
func ParsePair(data []byte) (Pair, error) {
	certs, key, err := parsePEM(data)
	if err != nil {
		return Pair{}, err
	}
	return NewPair(certs, key)
}

// NewPair returns a chain with the key of its first certificate.
func NewPair(certs []*x509.Certificate, key crypto.Signer) (Pair, error) {
	switch {
	case len(certs) == 0:
		return Pair{}, errors.New("parse certificate and key: no certificate there, want PEM")
	case key == nil:
		return Pair{}, errors.New("parse certificate and key: no private key there, want PEM")
	case !sameKey(certs[0], key):
		return Pair{}, errors.New("parse certificate and key: they do not belong together")
	}
	return Pair{Chain: certs, Key: key}, nil
}

// ParseChain parses certificates in DER.
func ParseChain(ders [][]byte) ([]*x509.Certificate, error) {
	if len(ders) == 0 || len(ders) > maxCerts {
		return nil, fmt.Errorf("parse certificates: %d of them, want 1 to %d", len(ders), maxCerts)
	}
	var certs []*x509.Certificate
	for _, der := range ders {
		c, err := parseCert(der)
		if err != nil {
			return nil, err
		}
		certs = append(certs, c)
	}
	return certs, nil
}

// DER returns the certificates as they are on the wire.
func DER(certs []*x509.Certificate) [][]byte {
	var ders [][]byte
	for _, c := range certs {
		ders = append(ders, c.Raw)
	}
	return ders
}

// EncodeCerts returns the certificates in PEM.
func EncodeCerts(certs []*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: blockCert, Bytes: c.Raw})...)
	}
	return out
}

// EncodePair returns the chain and the key in PEM, in one piece.
func EncodePair(p Pair) ([]byte, error) {
	key, err := EncodeKey(p.Key)
	return append(EncodeCerts(p.Chain), key...), err
}

// ParseKey reads a private key, in PEM.
func ParseKey(data []byte) (crypto.Signer, error) {
	_, key, err := parsePEM(data)
	if err == nil && key == nil {
		err = errors.New("parse key: none there, want PEM")
	}
	return key, err
}

// EncodeKey returns the key in PEM.
func EncodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: blockKey, Bytes: der}), nil
}

func parsePEM(data []byte) (certs []*x509.Certificate, key crypto.Signer, err error) {
	if len(data) > MaxPEM {
		return nil, nil, fmt.Errorf("parse PEM: %d bytes, want at most %d", len(data), MaxPEM)
	}
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return certs, key, nil
		}
		if block.Type == blockCert {
			c, err := parseCert(block.Bytes)
			if err != nil {
				return nil, nil, err
			}
			if certs = append(certs, c); len(certs) > maxCerts {
				return nil, nil, fmt.Errorf("parse PEM: more than %d certificates", maxCerts)
			}
			continue
		}
		if key != nil {
			return nil, nil, errors.New("parse PEM: more than one private key")
		}
		if key, err = parseKey(block); err != nil {
			return nil, nil, err
		}
	}
}

func parseCert(der []byte) (*x509.Certificate, error) {
	if len(der) > MaxDER {
		return nil, fmt.Errorf("parse certificate: %d bytes, want at most %d", len(der), MaxDER)
	}
	c, err := x509.ParseCertificate(der)
	if err == nil {
		err = checkKey(c.PublicKey)
	}
	if err != nil {
		return nil, fmt.Errorf("parse certificate: %w", err)
	}
	return c, nil
}

func parseKey(block *pem.Block) (crypto.Signer, error) {
	var parsed any
	var err error
	switch block.Type {
	case blockKey:
		parsed, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case blockECKey:
		parsed, err = x509.ParseECPrivateKey(block.Bytes)
	case blockRSA:
		parsed, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("parse PEM: a block of type %q: want certificates and an unencrypted private key", clip(block.Type))
	}
	if err != nil {
		return nil, errors.New("parse private key: it is damaged, or encrypted") // the cause could quote the key
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, errors.New("parse private key: it cannot sign")
	}
	if err := checkKey(key.Public()); err != nil {
		return nil, fmt.Errorf("parse private key: %w", err)
	}
	return key, nil
}
