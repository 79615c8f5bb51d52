package engine

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
)

// Network is one of the engine's networks.
type Network struct {
	ID, Name, Driver string
	IPAM             string // its driver of addresses
	Internal         bool
	Subnets          []netip.Prefix // as the engine has them
	Options          map[string]string
}

// bridgeOption names the link of a network of the engine's own driver bridge, if it
// is not that of its ID.
const bridgeOption = "com.docker.network.bridge.name"

// Bridge returns the link on the host on which a network of the engine's own driver
// bridge is.
func (n Network) Bridge() (link string, ok bool) {
	if n.Driver != "bridge" {
		return "", false
	}
	if name := n.Options[bridgeOption]; name != "" {
		return name, true
	}
	if len(n.ID) < shortID {
		return "", false
	}
	return "br-" + n.ID[:shortID], true // getBridgeName in libnetwork/drivers/bridge
}

// networkMessage is a network as the API has it.
type networkMessage struct {
	ID       string `json:"Id"`
	Name     string
	Driver   string
	Internal bool
	IPAM     struct {
		Driver string
		Config []struct{ Subnet string }
	}
	Options map[string]string
}

func (m networkMessage) network() Network {
	n := Network{ID: m.ID, Name: m.Name, Driver: m.Driver, IPAM: m.IPAM.Driver, Internal: m.Internal, Options: m.Options}
	for _, c := range m.IPAM.Config {
		if p, err := netip.ParsePrefix(c.Subnet); err == nil {
			n.Subnets = append(n.Subnets, p.Masked())
		}
	}
	return n
}

// Networks returns all networks of the engine.
func (c *Client) Networks(ctx context.Context) ([]Network, error) {
	var all []networkMessage
	if err := c.call(ctx, http.MethodGet, "/networks", nil, nil, &all); err != nil {
		return nil, fmt.Errorf("list the engine's networks: %w", err)
	}
	out := make([]Network, len(all))
	for i, m := range all {
		out[i] = m.network()
	}
	return out, nil
}

// apiWithoutIPv4 is the first version of the API in which a network need not have
// IPv4.
const apiWithoutIPv4 = 48

// OnlyIPv6 reports whether the engine can have a network of IPv6 alone.
func (c *Client) OnlyIPv6() bool { return c.AtLeast(apiWithoutIPv4) }

// CreateNetwork makes a network and returns its ID. The error is [ErrExists] if
// there is one of that name.
func (c *Client) CreateNetwork(ctx context.Context, n Network) (id string, err error) {
	type config struct{ Subnet string }
	type ipam struct {
		Driver  string
		Config  []config          `json:",omitempty"`
		Options map[string]string `json:",omitempty"`
	}
	in := struct {
		Name, Driver         string
		CheckDuplicate       bool // 20.10 makes a second one of that name without it
		Internal, EnableIPv6 bool
		EnableIPv4           *bool `json:",omitempty"`
		IPAM                 ipam
		Options              map[string]string
	}{Name: n.Name, Driver: n.Driver, CheckDuplicate: true, Internal: n.Internal, IPAM: ipam{Driver: n.IPAM, Options: n.Options}, Options: n.Options}
	four := false
	for _, p := range n.Subnets {
		in.IPAM.Config = append(in.IPAM.Config, config{p.String()})
		in.EnableIPv6 = in.EnableIPv6 || p.Addr().Is6()
		four = four || p.Addr().Is4()
	}
	if c.OnlyIPv6() {
		in.EnableIPv4 = &four
	}
	var out struct {
		ID string `json:"Id"`
	}
	if err := c.call(ctx, http.MethodPost, "/networks/create", nil, in, &out); err != nil {
		return "", fmt.Errorf("create docker network %s: %w", n.Name, err)
	}
	return out.ID, nil
}

// RemoveNetwork removes a network. The error is [ErrInUse] if containers are on it,
// and nil if it is gone already.
func (c *Client) RemoveNetwork(ctx context.Context, id string) error {
	err := c.call(ctx, http.MethodDelete, "/networks/"+pathSegment(id), nil, nil, nil)
	if err == nil || isNotFound(err) {
		return nil
	}
	return fmt.Errorf("remove docker network %.12s: %w", id, err)
}
