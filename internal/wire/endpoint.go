package wire

import (
	"fmt"
	"slices"

	"github.com/ovlnet/ovl/internal/cluster"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// Endpoint returns e as a message; host is the name of its host.
func Endpoint(e cluster.Endpoint, host string) *ovlv1.Endpoint {
	return &ovlv1.Endpoint{
		Id: e.ID, Name: e.Name, Network: e.Network, HostId: string(e.Host), Host: host,
		Addresses: addrTexts(e.Addrs), Mac: macText(e.MAC), Aliases: slices.Clone(e.Aliases),
		Labels: labels(e.Labels), Revision: e.Revision,
	}
}

// ParseEndpoint returns the endpoint in p.
func ParseEndpoint(p *ovlv1.Endpoint) (cluster.Endpoint, error) {
	fail := func(err error) (cluster.Endpoint, error) {
		return cluster.Endpoint{}, fmt.Errorf("parse endpoint %q: %w", p.GetId(), err)
	}
	host, err := cluster.ParseHostID(p.GetHostId())
	if err != nil {
		return fail(err)
	}
	addrs, err := parseAddrs(p.GetAddresses())
	if err != nil {
		return fail(err)
	}
	mac, err := parseOptionalMAC(p.GetMac())
	if err != nil {
		return fail(err)
	}
	return cluster.Endpoint{
		Network: p.GetNetwork(), Host: host, ID: p.GetId(), Name: p.GetName(),
		Aliases: slices.Clone(p.GetAliases()), Addrs: addrs, MAC: mac,
		Labels: labels(p.GetLabels()), Revision: p.GetRevision(),
	}, nil
}
