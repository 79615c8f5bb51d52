package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"unicode"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/ovlnet/ovl/internal/cluster"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// defaultSocket is the agent's, unless OVL_SOCKET or the configuration says
// otherwise.
const defaultSocket = "/run/ovl/agent.sock"

// conf is the configuration on stdin: what the specification and its
// conventions have, and network and socket, which are ovl's own.
type conf struct {
	types.PluginConf
	bridgeConf
	// Network is the ovl network to attach to; that of the configuration's name
	// if empty.
	Network string `json:"network,omitempty"`
	Socket  string `json:"socket,omitempty"`

	RuntimeConfig runtimeConfig `json:"runtimeConfig,omitzero"`
	Args          struct {
		CNI struct {
			IPs    []string `json:"ips,omitempty"`
			MAC    string   `json:"mac,omitempty"` // which the reference plugins know, though CONVENTIONS.md does not
			Labels []struct {
				Key   string `json:"key"`
				Value string `json:"value"`
			} `json:"labels,omitempty"`
		} `json:"cni,omitzero"`
	} `json:"args,omitzero"`

	// Valid is null or a list if the runtime names the valid attachments, and
	// absent if it does not.
	Valid json.RawMessage `json:"cni.dev/valid-attachments,omitempty"`
}

// runtimeConfig is what the runtime says to the capabilities of the configuration,
// as CONVENTIONS.md of the specification has them.
type runtimeConfig struct {
	MAC          string        `json:"mac,omitempty"`
	IPs          []string      `json:"ips,omitempty"`
	Aliases      aliases       `json:"aliases,omitzero"`
	PortMappings []portMapping `json:"portMappings,omitempty"`
	Bandwidth    *bandwidth    `json:"bandwidth,omitempty"`
	DNS          struct {
		Servers  []string `json:"servers,omitempty"`
		Searches []string `json:"searches,omitempty"`
		Options  []string `json:"options,omitempty"`
	} `json:"dns,omitzero"`
}

// portMapping publishes a port of the container on the host.
type portMapping struct {
	HostPort      uint32 `json:"hostPort"`
	ContainerPort uint32 `json:"containerPort"`
	Protocol      string `json:"protocol"` // empty: tcp
	HostIP        string `json:"hostIP,omitempty"`
}

// bandwidth is what the interface may carry, in bits per second and bits.
type bandwidth struct {
	IngressRate  uint64 `json:"ingressRate"`
	IngressBurst uint64 `json:"ingressBurst"`
	EgressRate   uint64 `json:"egressRate"`
	EgressBurst  uint64 `json:"egressBurst"`
}

// cniArgs are the ones of CNI_ARGS that mean something to ovl.
type cniArgs struct {
	types.CommonArgs
	IP                types.UnmarshallableString
	MAC               types.UnmarshallableString
	K8S_POD_NAMESPACE types.UnmarshallableString // as Kubernetes spells it
	K8S_POD_NAME      types.UnmarshallableString // as Kubernetes spells it
}

// request is what a runtime asks for.
type request struct {
	conf
	args *skel.CmdArgs
	cni  cniArgs
}

// parse returns what the runtime gave, read but not judged. Errors are of the
// specification's codes.
func parse(args *skel.CmdArgs) (*request, error) {
	r := &request{args: args}
	// PluginConf has the list of valid attachments too; the outer field wins,
	// so that null and absent stay apart.
	if err := json.Unmarshal(args.StdinData, &r.conf); err != nil {
		return r, types.NewError(types.ErrDecodingFailure, "read the network configuration: "+err.Error(), "")
	}
	return r, r.settle()
}

// parseLax does so and passes over fields of the wrong kind, after which the decoder goes
// on. It is for a container that goes: runtimes give the configuration of the moment,
// which may have become invalid since the container came.
func parseLax(args *skel.CmdArgs) (*request, error) {
	r, err := parse(args)
	if err != nil && json.Valid(args.StdinData) {
		err = r.settle()
	}
	return r, err
}

// settle says which network and which socket are meant.
func (r *request) settle() error {
	if strings.ContainsFunc(r.Socket, unicode.IsControl) {
		return invalid("socket: %q: want a path", r.Socket)
	}
	if r.Network == "" {
		r.Network = r.Name
	}
	return nil
}

// parseWhole returns what the runtime gave, held to what an attachment needs.
func parseWhole(args *skel.CmdArgs) (*request, error) {
	r, err := parse(args)
	if err != nil {
		return nil, err
	}
	if err := version.ParsePrevResult(&r.PluginConf); err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, "read prevResult: "+err.Error(), "")
	}
	if err := cluster.CheckName(r.Network); err != nil {
		return nil, invalid("network: %v: name the ovl network with \"network\"", err)
	}
	if r.IPAM.Type != "" {
		return nil, invalid("ipam: %q: ovl chooses addresses itself: take \"ipam\" out of the configuration", r.IPAM.Type)
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	if err := types.LoadArgs(args.Args, &r.cni); err != nil {
		return nil, types.NewError(types.ErrInvalidEnvironmentVariables, "read CNI_ARGS: "+err.Error(), "")
	}
	return r, nil
}

func invalid(format string, args ...any) error {
	return types.NewError(types.ErrInvalidNetworkConfig, fmt.Sprintf(format, args...), "")
}

// valid returns the attachments that a GC must keep.
func (r *request) valid() ([]types.GCAttachment, error) {
	if r.Valid == nil {
		return nil, invalid("cni.dev/valid-attachments is missing: without it every attachment would be removed")
	}
	var list []types.GCAttachment
	if err := json.Unmarshal(bytes.TrimSpace(r.Valid), &list); err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, "read cni.dev/valid-attachments: "+err.Error(), "")
	}
	return list, nil
}

// addresses returns the addresses that the runtime wants, without lengths: the
// subnet of the host gives those. The runtime's own wish goes before those of
// the configuration and of CNI_ARGS.
func (r *request) addresses() ([]string, error) {
	texts := r.RuntimeConfig.IPs
	if len(texts) == 0 {
		texts = r.Args.CNI.IPs
	}
	if ip := string(r.cni.IP); len(texts) == 0 && ip != "" {
		texts = strings.Split(ip, ",")
	}
	var out []string
	for _, text := range texts {
		a, err := netip.ParseAddr(text)
		if p, perr := netip.ParsePrefix(text); perr == nil {
			a, err = p.Addr(), nil
		}
		if err != nil {
			return nil, invalid("ips: %q: want an address, such as 10.64.3.9", text)
		}
		out = append(out, a.String())
	}
	return out, nil
}

// mac returns the MAC that is wanted, by the same precedence.
func (r *request) mac() string {
	return cmp.Or(r.RuntimeConfig.MAC, r.Args.CNI.MAC, string(r.cni.MAC))
}

// ports returns the ports to publish.
func (r *request) ports() []*ovlv1.Port {
	var out []*ovlv1.Port
	for _, m := range r.RuntimeConfig.PortMappings {
		out = append(out, &ovlv1.Port{
			// Kubernetes writes TCP, Podman tcp, and nothing means tcp to both.
			Protocol: cmp.Or(strings.ToLower(m.Protocol), "tcp"), HostIp: m.HostIP, HostPort: m.HostPort, ContainerPort: m.ContainerPort,
		})
	}
	return out
}

// bandwidth returns the limits of the interface, nil if there are none.
func (r *request) bandwidth() *ovlv1.Bandwidth {
	b := r.RuntimeConfig.Bandwidth
	if b == nil || *b == (bandwidth{}) {
		return nil
	}
	return &ovlv1.Bandwidth{IngressRate: b.IngressRate, IngressBurst: b.IngressBurst, EgressRate: b.EgressRate, EgressBurst: b.EgressBurst}
}

// names returns what the runtime, or else the configuration, says of name servers.
func (r *request) names() types.DNS {
	dns, d := r.DNS, r.RuntimeConfig.DNS
	if len(d.Servers) > 0 {
		dns.Nameservers = d.Servers
	}
	if len(d.Searches) > 0 {
		dns.Search = d.Searches
	}
	if len(d.Options) > 0 {
		dns.Options = d.Options
	}
	return dns
}
