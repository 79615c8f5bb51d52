package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/containernetworking/cni/pkg/ns"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/wire"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// add attaches a container and prints what it got. Adding again is answered
// with the same.
func (p plugin) add(args *skel.CmdArgs) error {
	r, err := parseWhole(args)
	if err != nil {
		return err
	}
	addrs, err := r.addresses()
	if err != nil {
		return err
	}
	if err := checkNetNS(args.Netns); err != nil {
		return err
	}
	name := r.containerName()
	return p.ask(r, func(ctx context.Context, a agent) error {
		id, netns := attachmentID(args.ContainerID, args.IfName), filepath.Clean(args.Netns)
		ports, err := a.unpublished(ctx, id, netns, r.ports())
		if err != nil {
			return a.translate(err)
		}
		att, err := a.Attach(ctx, &ovlv1.AttachRequest{
			Id: id, Name: name, Netns: netns, Labels: r.labels(), Ports: ports,
			Interfaces: []*ovlv1.InterfaceRequest{{
				Network: r.Network, Name: args.IfName, Addresses: addrs, Mac: r.mac(), Aliases: r.aliases(), Bandwidth: r.bandwidth(),
				Masquerade: r.IPMasq, Mtu: uint32(r.MTU),
			}},
		})
		if err != nil {
			return a.translate(err)
		}
		return p.print(r, att)
	})
}

// checkNetNS refuses what is no container's namespace, ahead of the agent: the error is
// about the environment, and the specification has a code for that.
func checkNetNS(path string) error {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return types.NewError(types.ErrInvalidEnvironmentVariables, "CNI_NETNS: "+path+": there is no such namespace (any more)", "")
	}
	// The library looks at this after the fact, when there is a result on stdout.
	if own, err := ns.CheckNetNS(path); err != nil {
		return err
	} else if own {
		return types.NewError(types.ErrInvalidNetNS, path+" is the host's own network namespace, not a container's", "")
	}
	return nil
}

// print prints the result of a command, after what plugins before this one said.
func (p plugin) print(r *request, att *ovlv1.Attachment) error {
	before := &types100.Result{}
	if r.PrevResult != nil {
		var err error
		if before, err = types100.NewResultFromResult(r.PrevResult); err != nil {
			return types.NewError(types.ErrDecodingFailure, "read prevResult: "+err.Error(), "")
		}
	}
	res, err := result(before, att, r.names())
	if err != nil {
		return types.NewError(types.ErrInternal, "read the agent's answer: "+err.Error(), "")
	}
	out, err := res.GetAsVersion(r.CNIVersion)
	if err != nil {
		return types.NewError(types.ErrIncompatibleCNIVersion, err.Error(), "")
	}
	if err := out.PrintTo(p.stdout); err != nil {
		return types.NewError(types.ErrIOFailure, "print the result: "+err.Error(), "")
	}
	return nil
}

// result returns before with the interfaces, addresses and routes of att added.
func result(before *types100.Result, att *ovlv1.Attachment, dns types.DNS) (*types100.Result, error) {
	res := *before
	res.CNIVersion = types100.ImplementedSpecVersion
	if !dns.IsEmpty() {
		res.DNS = dns
	}
	for _, m := range att.GetInterfaces() {
		i, detail, err := wire.ParseInterface(m)
		if err != nil {
			return nil, err
		}
		if res.DNS.IsEmpty() && detail.Domain != "" {
			// Advice: some runtimes make a resolv.conf of it, Kubernetes does not.
			for _, gw := range detail.Gateways {
				res.DNS.Nameservers = append(res.DNS.Nameservers, gw.String())
			}
			res.DNS.Search = []string{detail.Domain}
		}
		if detail.HostLink != "" { // a macvlan has no end on the host
			res.Interfaces = append(res.Interfaces, &types100.Interface{Name: detail.HostLink, Mtu: detail.MTU})
		}
		inside := len(res.Interfaces)
		res.Interfaces = append(res.Interfaces, &types100.Interface{Name: i.Name, Mac: i.MAC.String(), Mtu: detail.MTU, Sandbox: att.GetNetns()})
		res.IPs = append(res.IPs, ips(i, detail, inside)...)
		for _, route := range detail.Routes {
			// What is directly on the interface is implied by its address.
			if route.Via.IsValid() {
				res.Routes = append(res.Routes, &types.Route{Dst: ipNet(route.Dst), GW: route.Via.AsSlice()})
			}
		}
	}
	if len(res.IPs) == 0 {
		return nil, fmt.Errorf("attachment %s has no address", att.GetId())
	}
	return &res, nil
}

func ips(i cluster.Interface, d wire.InterfaceDetail, index int) []*types100.IPConfig {
	var out []*types100.IPConfig
	for _, p := range i.Addrs {
		c := &types100.IPConfig{Interface: new(index), Address: ipNet(p)}
		for _, gw := range d.Gateways {
			if p.Masked().Contains(gw) {
				c.Gateway = gw.AsSlice()
			}
		}
		for _, r := range d.Routes {
			if r.Dst.Bits() == 0 && p.Masked().Contains(r.Via) { // on a segment somebody else's
				c.Gateway = r.Via.AsSlice()
			}
		}
		out = append(out, c)
	}
	return out
}

// ipNet returns p with its address as it is, not masked.
func ipNet(p netip.Prefix) net.IPNet {
	return net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
