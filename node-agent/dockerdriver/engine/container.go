package engine

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// shortID is how many digits of an ID people see, and containers have as hostname.
const shortID = 12

// Container is a container, as far as its networks go.
type Container struct {
	ID, Name string
	Hostname string // its own, or that which engines give
	Pid      int    // of its first process; 0: it does not run
	Ended    bool   // it has run, and does no more
	On       []Plugged
}

// Plugged is a container on one network.
type Plugged struct {
	NetworkID, EndpointID string
	Addrs                 []netip.Addr
	Aliases               []string // as the engine answers to, in lower case, sorted; the name is none of them
}

// containerMessage is a container as the API has it.
type containerMessage struct {
	ID     string `json:"Id"`
	Name   string // "/web"
	Config struct {
		Hostname string
	}
	State struct {
		Status string
		Pid    int
	}
	NetworkSettings struct {
		Networks map[string]plugMessage
	}
}

type plugMessage struct {
	NetworkID, EndpointID        string
	IPAddress, GlobalIPv6Address string
	// Aliases are what was asked for and, up to engine 25, the short ID. DNSNames, of
	// later ones, are all names.
	Aliases, DNSNames []string
}

func (m containerMessage) container() Container {
	c := Container{ID: m.ID, Name: strings.ToLower(strings.TrimPrefix(m.Name, "/")), Hostname: m.Config.Hostname, Pid: m.State.Pid}
	c.Ended = c.Pid == 0 && (m.State.Status == "exited" || m.State.Status == "dead")
	for _, p := range m.NetworkSettings.Networks {
		c.On = append(c.On, p.plugged(c))
	}
	slices.SortFunc(c.On, func(a, b Plugged) int { return strings.Compare(a.EndpointID+a.NetworkID, b.EndpointID+b.NetworkID) })
	return c
}

func (m plugMessage) plugged(c Container) Plugged {
	p := Plugged{NetworkID: m.NetworkID, EndpointID: m.EndpointID}
	for _, s := range []string{m.IPAddress, m.GlobalIPv6Address} {
		if a, err := netip.ParseAddr(s); err == nil {
			p.Addrs = append(p.Addrs, a.WithZone(""))
		}
	}
	for _, alias := range slices.Concat(m.Aliases, m.DNSNames, []string{c.ID[:min(len(c.ID), shortID)]}) {
		if alias = strings.ToLower(alias); alias != c.Name && alias != "" {
			p.Aliases = append(p.Aliases, alias)
		}
	}
	slices.Sort(p.Aliases)
	p.Aliases = slices.Compact(p.Aliases)
	return p
}

// Containers returns the IDs of all containers, also of those that do not run: one that
// is just being started has endpoints already, and does not run yet.
func (c *Client) Containers(ctx context.Context) ([]string, error) {
	var all []struct {
		ID string `json:"Id"`
	}
	if err := c.call(ctx, http.MethodGet, "/containers/json", url.Values{"all": {"1"}}, nil, &all); err != nil {
		return nil, fmt.Errorf("list the engine's containers: %w", err)
	}
	ids := make([]string, len(all))
	for i := range all {
		ids[i] = all[i].ID
	}
	return ids, nil
}

// Container returns one container. The error is [ErrNotFound] if it is gone. The
// engine answers when it has finished what it is doing with it.
func (c *Client) Container(ctx context.Context, id string) (Container, error) {
	var m containerMessage
	if err := c.call(ctx, http.MethodGet, "/containers/"+pathSegment(id)+"/json", nil, nil, &m); err != nil {
		return Container{}, fmt.Errorf("ask the engine for container %.12s: %w", id, err)
	}
	return m.container(), nil
}

func isNotFound(err error) bool { return errors.Is(err, ErrNotFound) }

// pathSegment makes an ID a part of a path, whatever is in it.
func pathSegment(id string) string { return url.PathEscape(id) }
