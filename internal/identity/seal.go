package identity

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/ovlnet/ovl/internal/cluster"
)

// A record that its host has signed is sealed: the value, a line feed, and the
// signature in base64. The values are JSON on one line, so that the last line feed
// is ours, and whoever looks into the store reads a record as he did before.

// Place is where a sealed record lies. It is signed along: a record that is copied
// to another key or put under another lease is nobody's.
type Place struct {
	Key   string
	Lease int64 // that the key is attached to
}

// The causes why a seal does not hold.
var (
	ErrUnsealed = errors.New("it is not signed")
	ErrForged   = errors.New("its signature is not that host's, of that very record")
)

const (
	// sealOf begins what is signed, so that no signature made for anything else,
	// as in a handshake of TLS, is one of a record.
	sealOf = "ovl record 1\x00"
	// maxSeal bounds a signature: ECDSA on P-384 in ASN.1.
	maxSeal = 104
)

// Seal returns the value with the signature of key. The same value at the same
// place has the same seal (RFC 6979), so that whoever has the key knows without
// any verification whether what lies there is what he would write.
func Seal(key crypto.Signer, at Place, value []byte) ([]byte, error) {
	private, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("sign record %.160q: want a key of ECDSA: join again", at.Key)
	}
	digest := at.digest(value)
	signature, err := private.Sign(nil, digest[:], crypto.SHA256) // nil: deterministic
	if err != nil {
		return nil, fmt.Errorf("sign record %.160q: %w", at.Key, err)
	}
	sealed := make([]byte, 0, len(value)+1+base64.RawStdEncoding.EncodedLen(len(signature)))
	sealed = append(append(sealed, value...), '\n')
	return base64.RawStdEncoding.AppendEncode(sealed, signature), nil
}

// Unseal returns the value and the signature of a record; a nil one if it has none.
func Unseal(sealed []byte) (value, signature []byte) {
	i := bytes.LastIndexByte(sealed, '\n')
	if text := sealed[i+1:]; i >= 0 && len(text) > 0 && len(text) <= base64.RawStdEncoding.EncodedLen(maxSeal) {
		if signature, err := base64.RawStdEncoding.Strict().DecodeString(string(text)); err == nil {
			return sealed[:i], signature
		}
	}
	return sealed, nil
}

// CheckSeal reports whether the record at that place is signed with the key; else
// the error is [ErrUnsealed] or [ErrForged].
func CheckSeal(public crypto.PublicKey, at Place, sealed []byte) error {
	value, signature := Unseal(sealed)
	if signature == nil {
		return ErrUnsealed
	}
	digest := at.digest(value)
	if key, ok := public.(*ecdsa.PublicKey); !ok || !ecdsa.VerifyASN1(key, digest[:], signature) {
		return ErrForged
	}
	return nil
}

// digest is what is signed. Each part's length comes before it: no two places and
// values are one text.
func (p Place) digest(value []byte) [sha256.Size]byte {
	text := make([]byte, 0, len(sealOf)+24+len(p.Key)+len(value))
	text = append(text, sealOf...)
	text = binary.BigEndian.AppendUint64(text, uint64(len(p.Key)))
	text = append(text, p.Key...)
	text = binary.BigEndian.AppendUint64(text, uint64(p.Lease))
	text = append(text, value...)
	return sha256.Sum256(text)
}

// CheckHolder reports whether a certificate says that its key is the host's, and
// hangs from one of the roots. That it has expired does not matter: whether a host
// is a member the list of certificates says, and a host whose certificate ran out
// while it was connected must not take its subnets out of all routing tables.
func CheckHolder(c *x509.Certificate, roots []*x509.Certificate, host cluster.HostID) error {
	who, err := Verify([]*x509.Certificate{c}, roots, c.NotAfter, Host)
	if err != nil {
		return err
	}
	if id, _ := who.HostID(); id != host {
		return fmt.Errorf("certificate of %s is another host's than %s", who, host)
	}
	return nil
}
