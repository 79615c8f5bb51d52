package store

import (
	"fmt"
	"net/netip"

	"github.com/ovlnet/ovl/internal/cluster"
)

type hostRecord struct {
	ID        cluster.HostID `json:"id"`
	Name      string         `json:"name"`
	Underlay  []netip.Addr   `json:"underlay,omitempty"`
	VXLANPort uint16         `json:"vxlanPort"`
	Routes    []netip.Prefix `json:"routes,omitempty"`
	OnLink    []netip.Prefix `json:"onLink,omitempty"`
	Version   string         `json:"version,omitempty"`
}

// EncodeHost returns the value of a host's record, or why it cannot be one.
// Draining is not part of it: that lies at [DrainKey].
func EncodeHost(h cluster.Host) ([]byte, error) {
	if err := checkHost(h); err != nil {
		return nil, fmt.Errorf("encode host %q: %w", clip(string(h.ID)), err)
	}
	return encode("host "+string(h.ID), hostRecord{
		ID: h.ID, Name: h.Name, Underlay: h.Underlay, VXLANPort: h.VXLANPort,
		Routes: h.Routes, OnLink: h.OnLink, Version: h.Version,
	})
}

// DecodeHost returns the host in a record, with its revision; never draining.
func DecodeHost(r Record) (cluster.Host, error) {
	id, err := ParseHostKey(r.Key)
	if err != nil {
		return cluster.Host{}, err
	}
	var rec hostRecord
	if err := decode(r, &rec); err != nil {
		return cluster.Host{}, err
	}
	h := cluster.Host{
		ID: rec.ID, Name: rec.Name, Underlay: some(rec.Underlay), VXLANPort: rec.VXLANPort,
		Routes: some(rec.Routes), OnLink: some(rec.OnLink), Version: rec.Version, Revision: r.ModRev,
	}
	return checked(r, h, h.ID == id, checkHost)
}

func checkHost(h cluster.Host) error {
	if _, err := cluster.ParseHostID(string(h.ID)); err != nil {
		return err
	}
	if err := cluster.CheckName(h.Name); err != nil {
		return err
	}
	if err := checkAddrs(h.Underlay); err != nil {
		return fmt.Errorf("underlay: %w", err)
	}
	if h.VXLANPort == 0 {
		return fmt.Errorf("VXLAN port 0: want 1 to 65535")
	}
	for what, prefixes := range map[string][]netip.Prefix{"routes": h.Routes, "prefixes on link": h.OnLink} {
		if len(prefixes) > cluster.MaxHostRoutes {
			return fmt.Errorf("%d %s: want at most %d", len(prefixes), what, cluster.MaxHostRoutes)
		}
		for _, p := range prefixes {
			if err := checkPrefix(p); err != nil {
				return fmt.Errorf("%s: %w", what, err)
			}
		}
	}
	return checkText("version", h.Version, maxShort)
}

type leaseRecord struct {
	Network string         `json:"network"`
	Prefix  netip.Prefix   `json:"prefix"`
	Host    cluster.HostID `json:"host"`
	// After is a revision of the store at which the host saw that it could have the
	// prefix. Who has written the record anew since had seen what came after: a
	// record that names an earlier revision than another host's at that key has is
	// an old one that somebody put back.
	After int64 `json:"after,omitempty"`
	// Released: the host gives the prefix back, and deletes the record next. Who sees
	// that knows that nobody else deleted it.
	Released bool `json:"released,omitempty"`
}

// EncodeLease returns the value of a subnet's lease, or why it cannot be one.
func EncodeLease(l cluster.Lease) ([]byte, error) { return EncodeClaim(l, 0) }

// EncodeClaim is [EncodeLease] of a host that read the store at that revision.
func EncodeClaim(l cluster.Lease, after int64) ([]byte, error) {
	if err := checkLease(l); err != nil {
		return nil, fmt.Errorf("encode lease of %s: %w", l.Prefix, err)
	}
	return encode("lease of "+l.Prefix.String(), leaseRecord{Network: l.Network, Prefix: l.Prefix, Host: l.Host, After: after})
}

// EncodeRelease returns the value of the record by which a host gives back what it
// claimed with that of revision after.
func EncodeRelease(l cluster.Lease, after int64) ([]byte, error) {
	if err := checkLease(l); err != nil {
		return nil, fmt.Errorf("encode release of %s: %w", l.Prefix, err)
	}
	return encode("release of "+l.Prefix.String(), leaseRecord{Network: l.Network, Prefix: l.Prefix, Host: l.Host, After: after, Released: true})
}

// IsRelease reports whether a record is one of [EncodeRelease].
func IsRelease(r Record) bool {
	_, rec, err := decodeLease(r)
	return err == nil && rec.Released
}

// DecodeLease returns the lease in a record, with its revision; also of one that is
// being given back, which nobody else has yet.
func DecodeLease(r Record) (cluster.Lease, error) {
	l, _, err := decodeLease(r)
	return l, err
}

// DecodeClaim is [DecodeLease], with the revision at which the host read the store;
// 0 if it does not say.
func DecodeClaim(r Record) (l cluster.Lease, after int64, err error) {
	l, rec, err := decodeLease(r)
	return l, rec.After, err
}

func decodeLease(r Record) (l cluster.Lease, rec leaseRecord, err error) {
	network, prefix, err := ParseSubnetKey(r.Key)
	if err != nil {
		return cluster.Lease{}, rec, err
	}
	if err := decode(r, &rec); err != nil {
		return cluster.Lease{}, rec, err
	}
	l = cluster.Lease{Network: rec.Network, Prefix: rec.Prefix, Host: rec.Host, Revision: r.ModRev}
	l, err = checked(r, l, l.Network == network && l.Prefix == prefix, checkLease)
	return l, rec, err
}

func checkLease(l cluster.Lease) error {
	if err := cluster.CheckName(l.Network); err != nil {
		return err
	}
	if err := checkLeased(l.Prefix); err != nil {
		return err
	}
	_, err := cluster.ParseHostID(string(l.Host))
	return err
}

// some makes an empty slice the nil one, so that equal records are equal values.
func some[T any](s []T) []T {
	if len(s) == 0 {
		return nil
	}
	return s
}
