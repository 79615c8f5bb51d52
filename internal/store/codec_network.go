package store

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/ovlnet/ovl/internal/cluster"
)

type networkRecord struct {
	Name          string            `json:"name"`
	VNI           cluster.VNI       `json:"vni"`
	Driver        cluster.Driver    `json:"driver"`
	Pools         []poolRecord      `json:"pools"`
	Internal      bool              `json:"internal,omitempty"`
	Masquerade    bool              `json:"masquerade,omitempty"`
	NAT66         bool              `json:"nat66,omitempty"`
	DirectRouting bool              `json:"directRouting,omitempty"`
	Services      bool              `json:"services,omitempty"`
	MTU           int               `json:"mtu,omitempty"`
	StaticRanges  []netip.Prefix    `json:"staticRanges,omitempty"`
	DNSDomain     string            `json:"dnsDomain,omitempty"`
	Parent        string            `json:"parent,omitempty"`
	Labels        map[string]string `json:"labels,omitempty"`
	Created       time.Time         `json:"created,omitzero"`
}

type poolRecord struct {
	Prefix     netip.Prefix `json:"prefix"`
	HostPrefix int          `json:"hostPrefix"`
	Range      netip.Prefix `json:"range,omitzero"`
	Gateway    netip.Addr   `json:"gateway,omitzero"`
}

// EncodeNetwork returns the value of a network's record, or why it cannot be
// one. Its revisions are not part of the value.
func EncodeNetwork(n cluster.Network) ([]byte, error) {
	if err := checkNetwork(n); err != nil {
		return nil, fmt.Errorf("encode network %q: %w", clip(n.Name), err)
	}
	rec := networkRecord{
		Name: n.Name, VNI: n.VNI, Driver: n.Driver,
		Internal: n.Internal, Masquerade: n.Masquerade, NAT66: n.NAT66, DirectRouting: n.DirectRouting, Services: n.Services,
		MTU: n.MTU, StaticRanges: n.StaticRanges, DNSDomain: n.DNSDomain, Parent: n.Parent,
		Labels: n.Labels, Created: n.Created.UTC(),
	}
	for _, p := range n.Pools {
		rec.Pools = append(rec.Pools, poolRecord(p))
	}
	return encode("network "+n.Name, rec)
}

// DecodeNetwork returns the network in a record, with its revisions.
func DecodeNetwork(r Record) (cluster.Network, error) {
	name, err := ParseNetworkKey(r.Key)
	if err != nil {
		return cluster.Network{}, err
	}
	var rec networkRecord
	if err := decode(r, &rec); err != nil {
		return cluster.Network{}, err
	}
	n := cluster.Network{
		Name: rec.Name, VNI: rec.VNI, Driver: rec.Driver,
		Internal: rec.Internal, Masquerade: rec.Masquerade, NAT66: rec.NAT66, DirectRouting: rec.DirectRouting, Services: rec.Services,
		MTU: rec.MTU, StaticRanges: some(rec.StaticRanges), DNSDomain: rec.DNSDomain, Parent: rec.Parent,
		Labels: orNil(rec.Labels), Created: rec.Created.UTC(),
		CreateRevision: r.CreateRev, Revision: r.ModRev,
	}
	for _, p := range rec.Pools {
		n.Pools = append(n.Pools, cluster.Pool(p))
	}
	return checked(r, n, n.Name == name, checkNetwork)
}

func checkNetwork(n cluster.Network) error {
	if err := cluster.CheckName(n.Name); err != nil {
		return err
	}
	if !n.VNI.Valid() {
		return fmt.Errorf("VNI %d: want %d to %d", n.VNI, cluster.MinVNI, cluster.MaxVNI)
	}
	switch n.Driver {
	case cluster.DriverOverlay, cluster.DriverBridge, cluster.DriverMacvlan:
	default:
		return fmt.Errorf("driver %q: unknown to this version", clip(string(n.Driver)))
	}
	if err := checkPools(n.Pools); err != nil {
		return err
	}
	if n.MTU != 0 && (n.MTU < minMTU || n.MTU > maxMTU) {
		return fmt.Errorf("MTU %d: want 0 or %d to %d", n.MTU, minMTU, maxMTU)
	}
	if err := checkStaticRanges(n); err != nil {
		return err
	}
	if err := checkDomain(n.DNSDomain); err != nil {
		return err
	}
	if err := checkSegment(n); err != nil {
		return err
	}
	if err := checkTime(n.Created); err != nil {
		return err
	}
	return checkLabels(n.Labels)
}

// orNil makes an empty map the nil one, so that equal records are equal values.
func orNil(m map[string]string) map[string]string {
	if len(m) == 0 {
		return nil
	}
	return m
}
