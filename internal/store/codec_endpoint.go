package store

import (
	"fmt"
	"net/netip"

	"github.com/ovlnet/ovl/internal/cluster"
)

type endpointRecord struct {
	Network string            `json:"network"`
	Host    cluster.HostID    `json:"host"`
	ID      string            `json:"id"`
	Name    string            `json:"name,omitempty"`
	Aliases []string          `json:"aliases,omitempty"`
	Addrs   []netip.Addr      `json:"addrs,omitempty"`
	MAC     cluster.MAC       `json:"mac,omitzero"`
	Labels  map[string]string `json:"labels,omitempty"`
}

// EncodeEndpoint returns the value of an endpoint's record, or why it cannot be
// one.
func EncodeEndpoint(e cluster.Endpoint) ([]byte, error) {
	if err := checkEndpoint(e); err != nil {
		return nil, fmt.Errorf("encode endpoint %q: %w", clip(e.ID), err)
	}
	return encode("endpoint "+e.ID, endpointRecord{
		Network: e.Network, Host: e.Host, ID: e.ID, Name: e.Name,
		Aliases: e.Aliases, Addrs: e.Addrs, MAC: e.MAC, Labels: e.Labels,
	})
}

// DecodeEndpoint returns the endpoint in a record, with its revision.
func DecodeEndpoint(r Record) (cluster.Endpoint, error) {
	network, host, id, err := ParseEndpointKey(r.Key)
	if err != nil {
		return cluster.Endpoint{}, err
	}
	var rec endpointRecord
	if err := decode(r, &rec); err != nil {
		return cluster.Endpoint{}, err
	}
	e := cluster.Endpoint{
		Network: rec.Network, Host: rec.Host, ID: rec.ID, Name: rec.Name,
		Aliases: some(rec.Aliases), Addrs: some(rec.Addrs), MAC: rec.MAC,
		Labels: orNil(rec.Labels), Revision: r.ModRev,
	}
	return checked(r, e, e.Network == network && e.Host == host && e.ID == id, checkEndpoint)
}

func checkEndpoint(e cluster.Endpoint) error {
	if err := cluster.CheckName(e.Network); err != nil {
		return err
	}
	if _, err := cluster.ParseHostID(string(e.Host)); err != nil {
		return err
	}
	if err := CheckID(e.ID); err != nil {
		return err
	}
	if e.Name != "" { // not every runtime names its containers
		if err := cluster.CheckEndpointName(e.Name); err != nil {
			return err
		}
	}
	if len(e.Aliases) > cluster.MaxAliases {
		return fmt.Errorf("%d aliases: want at most %d", len(e.Aliases), cluster.MaxAliases)
	}
	for _, a := range e.Aliases {
		if err := cluster.CheckEndpointName(a); err != nil {
			return fmt.Errorf("alias: %w", err)
		}
	}
	if err := checkAddrs(e.Addrs); err != nil {
		return err
	}
	if e.MAC[0]&1 != 0 {
		return fmt.Errorf("MAC %s: a group address", e.MAC)
	}
	return checkLabels(e.Labels)
}
