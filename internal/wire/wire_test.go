package wire_test

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/wire"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

const hostID = cluster.HostID("0123456789abcdef0123456789abcdef")

var (
	when = time.Date(2026, 3, 4, 5, 6, 7, 8, time.UTC)
	four = netip.MustParseAddr("192.0.2.7")
	six  = netip.MustParseAddr("2001:db8::7")
)

// over sends m through protobuf's own encoding, as a call would.
func over[M proto.Message](t *testing.T, m M) M {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	out := m.ProtoReflect().New().Interface().(M)
	if err := proto.Unmarshal(b, out); err != nil {
		t.Fatal(err)
	}
	return out
}

func same[T any](t *testing.T, got, want T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("came back as\n%+v\nwant\n%+v", got, want)
	}
}

func TestNetworkRoundTrip(t *testing.T) {
	for _, n := range []cluster.Network{
		{
			Name: "blue", VNI: cluster.MaxVNI, Driver: cluster.DriverOverlay,
			Pools: []cluster.Pool{
				{Prefix: netip.MustParsePrefix("10.64.0.0/16"), HostPrefix: 24},
				{Prefix: netip.MustParsePrefix("fd64::/48"), HostPrefix: 64},
			},
			Internal: true, Masquerade: true, NAT66: true, DirectRouting: true, Services: true, MTU: 1400,
			StaticRanges: []netip.Prefix{netip.MustParsePrefix("10.64.255.0/24")}, DNSDomain: "lan", Parent: "eth1",
			Labels: map[string]string{"a": "b"}, Created: when, Revision: 42,
		},
		{Name: "bare", VNI: 1, Driver: cluster.DriverMacvlan},
		{Name: "lan", VNI: 3, Driver: cluster.DriverMacvlan, Parent: "eth0.100", Pools: []cluster.Pool{
			{Prefix: netip.MustParsePrefix("192.0.2.0/24"), HostPrefix: 28, Gateway: netip.MustParseAddr("192.0.2.254")},
			{Prefix: netip.MustParsePrefix("2001:db8::/64"), HostPrefix: 80, Range: netip.MustParsePrefix("2001:db8:0:0:1::/80"), Gateway: netip.MustParseAddr("2001:db8::1")},
		}},
		{Name: "six", VNI: 2, Driver: cluster.DriverBridge, Pools: []cluster.Pool{{Prefix: netip.MustParsePrefix("fd64::/48"), HostPrefix: 125}}},
	} {
		got, err := wire.ParseNetwork(over(t, wire.Network(n)))
		same(t, got, n, err)
	}
}

func TestHostRoundTrip(t *testing.T) {
	h := cluster.Host{
		ID: hostID, Name: "h1", Underlay: []netip.Addr{four, six}, VXLANPort: 4789,
		Routes: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/64")}, Version: "v1", Draining: true,
	}
	p := over(t, wire.Host(h, wire.HostDetail{
		State: "unhealthy", Subnets: 2, Endpoints: 3,
		Session: &cluster.Session{Started: when, AppliedRevision: 9, Problems: []cluster.Problem{{Severity: cluster.SeverityWarning, Subject: "s", What: "w", Hint: "h"}}},
	}))
	got, err := wire.ParseHost(p)
	same(t, got, h, err)
	if p.GetState() != "unhealthy" || p.GetSubnets() != 2 || p.GetEndpoints() != 3 || p.GetAppliedRevision() != 9 || !p.GetStarted().AsTime().Equal(when) {
		t.Errorf("detail lost: %v", p)
	}
	same(t, wire.ParseProblem(p.GetProblems()[0]), cluster.Problem{Severity: cluster.SeverityWarning, Subject: "s", What: "w", Hint: "h"}, nil)
	if down := wire.Host(h, wire.HostDetail{State: "down"}); down.GetStarted() != nil || down.GetAppliedRevision() != 0 {
		t.Errorf("a host without a session shows one: %v", down)
	}
}

func TestSubnetRoundTrip(t *testing.T) {
	for _, s := range []string{"10.64.3.0/24", "fd64:0:0:3::/64"} {
		l := cluster.Lease{Network: "blue", Prefix: netip.MustParsePrefix(s), Host: hostID, Revision: 5}
		p := over(t, wire.Subnet(l, cluster.Host{Name: "h1", Underlay: []netip.Addr{four}}, 100))
		got, err := wire.ParseSubnet(p)
		same(t, got, l, err)
		if p.GetHost() != "h1" || p.GetUnderlay()[0] != four.String() || p.GetVtepMac() != cluster.VTEPMAC(hostID, 100).String() {
			t.Errorf("detail lost: %v", p)
		}
	}
	if p := wire.Subnet(cluster.Lease{Network: "blue", Prefix: netip.MustParsePrefix("10.64.3.0/24"), Host: hostID}, cluster.Host{}, 0); p.GetVtepMac() != "" {
		t.Errorf("a VTEP MAC %s without a VNI", p.GetVtepMac())
	}
}

func TestEndpointRoundTrip(t *testing.T) {
	for _, e := range []cluster.Endpoint{
		{
			Network: "blue", Host: hostID, ID: "web", Name: "web", Aliases: []string{"www"}, Addrs: []netip.Addr{four, six},
			MAC: cluster.MAC{2, 1, 2, 3, 4, 5}, Labels: map[string]string{"k": ""}, Revision: 7,
		},
		{Network: "blue", Host: hostID, ID: "x"},
	} {
		p := over(t, wire.Endpoint(e, "h1"))
		got, err := wire.ParseEndpoint(p)
		same(t, got, e, err)
		if p.GetHost() != "h1" {
			t.Errorf("host %q, want h1", p.GetHost())
		}
	}
}

func TestAttachmentRoundTrip(t *testing.T) {
	a := cluster.Attachment{
		ID: "web", Name: "web", NetNS: "/run/netns/web", Hostname: "web", Labels: map[string]string{"k": "v"}, Created: when,
		Ports: []cluster.Port{
			{Proto: cluster.TCP, HostPort: 1, ContainerPort: 65535},
			{Proto: cluster.UDP, HostIP: four, HostPort: 53, ContainerPort: 53},
			{Proto: cluster.TCP, HostIP: six, HostPort: 80, ContainerPort: 80},
		},
		Interfaces: []cluster.Interface{
			{Network: "blue", Name: "eth0", Addrs: []netip.Prefix{netip.MustParsePrefix("10.64.3.2/24"), netip.MustParsePrefix("fd64::2/64")}, MAC: cluster.MAC{2, 0, 0, 0, 0, 1}, Aliases: []string{"www"}},
			{Network: "red", Name: "eth1"},
		},
	}
	d := wire.InterfaceDetail{HostLink: "ove1", Gateways: []netip.Addr{netip.MustParseAddr("10.64.3.1")}, MTU: 1450, Domain: "blue.ovl.internal", Routes: []wire.Route{
		{Dst: netip.MustParsePrefix("10.64.3.0/24")}, {Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("10.64.3.1")},
	}}
	p := over(t, wire.Attachment(a, func(cluster.Interface) wire.InterfaceDetail { return d }))
	got, err := wire.ParseAttachment(p)
	same(t, got, a, err)
	_, gotDetail, err := wire.ParseInterface(p.GetInterfaces()[0])
	same(t, gotDetail, d, err)
	got, err = wire.ParseAttachment(over(t, wire.Attachment(a, nil)))
	same(t, got, a, err)
}

func TestDriverUnspecifiedIsOverlay(t *testing.T) {
	d, err := wire.ParseDriver(ovlv1.Driver_DRIVER_UNSPECIFIED)
	same(t, d, cluster.DriverOverlay, err)
	if p := wire.Driver("teleport"); p != ovlv1.Driver_DRIVER_UNSPECIFIED {
		t.Errorf("an unknown driver became %v", p)
	}
}

func TestParseRefuses(t *testing.T) {
	for name, err := range map[string]error{
		"no prefix":          second(wire.ParseNetwork(&ovlv1.Network{Subnets: []string{"10.64.0.0"}, HostPrefixes: []uint32{24}})),
		"mapped prefix":      second(wire.ParseNetwork(&ovlv1.Network{Subnets: []string{"::ffff:10.0.0.0/104"}, HostPrefixes: []uint32{112}})),
		"missing length":     second(wire.ParseNetwork(&ovlv1.Network{Subnets: []string{"10.64.0.0/16"}})),
		"length beyond":      second(wire.ParseNetwork(&ovlv1.Network{Subnets: []string{"10.64.0.0/16"}, HostPrefixes: []uint32{33}})),
		"gateway":            second(wire.ParseNetwork(&ovlv1.Network{Gateways: []string{"x"}})),
		"gateway of nothing": second(wire.ParseNetwork(&ovlv1.Network{Gateways: []string{"192.0.2.1"}})),
		"range":              second(wire.ParseNetwork(&ovlv1.Network{IpRanges: []string{"x"}})),
		"range of nothing":   second(wire.ParseNetwork(&ovlv1.Network{IpRanges: []string{"192.0.2.0/25"}})),
		"static range":       second(wire.ParseNetwork(&ovlv1.Network{StaticRanges: []string{"x"}})),
		"driver":             second(wire.ParseNetwork(&ovlv1.Network{Driver: 99})),
		"host ID":            second(wire.ParseHost(&ovlv1.Host{Id: "h1"})),
		"underlay":           second(wire.ParseHost(&ovlv1.Host{Id: string(hostID), Underlay: []string{"fe80::1%eth0"}})),
		"routes":             second(wire.ParseHost(&ovlv1.Host{Id: string(hostID), Routes: []string{"everywhere"}})),
		"port":               second(wire.ParseHost(&ovlv1.Host{Id: string(hostID), VxlanPort: 65536})),
		"subnet prefix":      second(wire.ParseSubnet(&ovlv1.Subnet{HostId: string(hostID)})),
		"subnet host":        second(wire.ParseSubnet(&ovlv1.Subnet{Prefix: "10.64.0.0/24"})),
		"endpoint host":      second(wire.ParseEndpoint(&ovlv1.Endpoint{})),
		"endpoint address":   second(wire.ParseEndpoint(&ovlv1.Endpoint{HostId: string(hostID), Addresses: []string{"10.0.0.1/24"}})),
		"endpoint MAC":       second(wire.ParseEndpoint(&ovlv1.Endpoint{HostId: string(hostID), Mac: "02-00-00-00-00-01"})),
		"port beyond":        second(wire.ParsePort(&ovlv1.Port{Protocol: "tcp", HostPort: 65536, ContainerPort: 1})),
		"container port":     second(wire.ParsePort(&ovlv1.Port{Protocol: "tcp", HostPort: 1, ContainerPort: 1 << 31})),
		"port's protocol":    second(wire.ParsePort(&ovlv1.Port{HostPort: 1, ContainerPort: 1})),
		"port's address":     second(wire.ParsePort(&ovlv1.Port{Protocol: "tcp", HostIp: "::ffff:10.0.0.1", HostPort: 1, ContainerPort: 1})),
		"attachment address": second(wire.ParseAttachment(&ovlv1.Attachment{Interfaces: []*ovlv1.Interface{{Addresses: []string{"10.0.0.1"}}}})),
	} {
		if err == nil {
			t.Errorf("%s: accepted", name)
		} else if strings.ContainsRune(err.Error(), '\n') {
			t.Errorf("%s: error of several lines: %q", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }
