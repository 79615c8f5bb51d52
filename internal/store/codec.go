package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/identity"
)

// Every record is JSON with fields in lowerCamel, on one line; a host's signature
// may follow on the next (see [identity.Seal]), which decoding passes over: whether
// it holds [Mirror] and [Mirror.Doubts] say. A reader ignores the fields
// that it does not know, so a newer writer does not break older readers; every
// bound is checked on the way in and on the way out; and a record that does
// not agree with the key at which it lies is refused.

// errAgree is the cause when a record was copied to another's key.
var errAgree = errors.New("key and value do not agree")

// decode unmarshals the value of r into v within the bounds.
func decode(r Record, v any) error {
	if len(r.Value) > MaxValueLen {
		return fmt.Errorf("decode %s: %d bytes, want at most %d", clip(r.Key), len(r.Value), MaxValueLen)
	}
	value, _ := identity.Unseal(r.Value)
	if err := json.Unmarshal(value, v); err != nil {
		return fmt.Errorf("decode %s: %w", clip(r.Key), err)
	}
	return nil
}

// encode marshals v within the bounds.
func encode(what string, v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false) // six bytes for one, and no browser reads this
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode %s: %w", what, err)
	}
	b := bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
	if len(b) > MaxValueLen-sealRoom {
		return nil, fmt.Errorf("encode %s: %d bytes, want at most %d", what, len(b), MaxValueLen-sealRoom)
	}
	return b, nil
}

// checked returns v, or the zero value and why the record r is refused.
func checked[T any](r Record, v T, agree bool, check func(T) error) (T, error) {
	err := errAgree
	if agree {
		err = check(v)
	}
	if err != nil {
		var zero T
		return zero, fmt.Errorf("decode %s: %w", clip(r.Key), err)
	}
	return v, nil
}

// vniRecord says which network holds a VNI.
type vniRecord struct {
	Network string `json:"network"`
}

// EncodeVNI returns the value that reserves a VNI for a network.
func EncodeVNI(network string) ([]byte, error) {
	if err := cluster.CheckName(network); err != nil {
		return nil, fmt.Errorf("encode VNI: %w", err)
	}
	return encode("VNI", vniRecord{Network: network})
}

// DecodeVNI returns the VNI that a record reserves, and for which network.
func DecodeVNI(r Record) (vni cluster.VNI, network string, err error) {
	if vni, err = ParseVNIKey(r.Key); err != nil {
		return 0, "", err
	}
	var v vniRecord
	if err := decode(r, &v); err != nil {
		return 0, "", err
	}
	if err := cluster.CheckName(v.Network); err != nil {
		return 0, "", fmt.Errorf("decode %s: %w", clip(r.Key), err)
	}
	return vni, v.Network, nil
}
