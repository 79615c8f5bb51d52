package api_test

import (
	"net/netip"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"

	"github.com/ovlnet/ovl/controller/admit"
	"github.com/ovlnet/ovl/controller/api"
	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/identity"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

var pool = admit.Defaults{FirstVNI: 100, Pool: netip.MustParsePrefix("10.64.0.0/10"), Length: 16}

// hostClient returns the network service as a host that has joined sees it.
func (c *club) hostClient() ovlv1.NetworkServiceClient {
	c.t.Helper()
	key := c.key()
	m, err := c.join(c.token(&ovlv1.CreateTokenRequest{}), idA, "h1", key)
	if err != nil {
		c.t.Fatal(err)
	}
	chain, err := identity.ParseChain(m.GetChain())
	if err != nil {
		c.t.Fatal(err)
	}
	own := identity.NewCredential(identity.Pair{Chain: chain, Key: key}, c.ca.Roots(), time.Now)
	return ovlv1.NewNetworkServiceClient(c.dial(credentials.NewTLS(own.Client())))
}

// A host brings in what its container engine made, and takes away what an engine
// brought in: nothing else, and nothing by force.
func TestBring(t *testing.T) {
	c := newClubOf(t, api.Config{Defaults: pool, HostNetworks: true})
	host, admin, ctx := c.hostClient(), ovlv1.NewNetworkServiceClient(c.admin), t.Context()
	n, err := host.CreateNetwork(ctx, &ovlv1.CreateNetworkRequest{Name: "blue", Subnets: []string{"10.70.0.0/16"}, Internal: true})
	if err != nil {
		t.Fatal(err)
	}
	if n.GetLabels()[cluster.LabelDockerHost] != string(idA) || !n.GetInternal() || n.GetDriver() != ovlv1.Driver_overlay {
		t.Errorf("brought in: %v", n)
	}
	if _, err := host.CreateNetwork(ctx, &ovlv1.CreateNetworkRequest{Name: "blue", Subnets: []string{"10.70.0.0/16"}, Internal: true}); err != nil {
		t.Errorf("the same again: %v", err)
	}
	for field, req := range map[string]*ovlv1.CreateNetworkRequest{
		"vni":     {Vni: 7},
		"labels":  {Labels: map[string]string{"a": "b"}},
		"driver":  {Driver: ovlv1.Driver_macvlan, Parent: "eth0", Subnets: []string{"10.71.0.0/24"}},
		"dns_dom": {DnsDomain: "example.com"},
		"static_": {Subnets: []string{"10.72.0.0/16"}, StaticRanges: []string{"10.72.4.0/24"}},
	} {
		req.Name = "red"
		_, err := host.CreateNetwork(ctx, req)
		c.refused(field, err, codes.InvalidArgument, field)
	}
	if _, err := admin.CreateNetwork(ctx, &ovlv1.CreateNetworkRequest{Name: "ours"}); err != nil {
		t.Fatal(err)
	}
	_, err = host.DeleteNetwork(ctx, &ovlv1.DeleteNetworkRequest{Name: "ours"})
	c.refused("another's", err, codes.PermissionDenied, "not made by way of a container engine")
	_, err = host.DeleteNetwork(ctx, &ovlv1.DeleteNetworkRequest{Name: "blue", Force: true})
	c.refused("by force", err, codes.PermissionDenied, "use ovlctl network rm")
	if _, err := host.DeleteNetwork(ctx, &ovlv1.DeleteNetworkRequest{Name: "blue"}); err != nil {
		t.Errorf("its own: %v", err)
	}
}

func TestBringIsOff(t *testing.T) {
	c := newClubOf(t, api.Config{Defaults: pool})
	_, err := c.hostClient().CreateNetwork(t.Context(), &ovlv1.CreateNetworkRequest{Name: "blue"})
	c.refused("create", err, codes.PermissionDenied, "--host-networks")
}

// A stolen host cannot use up the cluster's VNIs and ranges.
func TestBringIsBounded(t *testing.T) {
	c := newClubOf(t, api.Config{Defaults: admit.Defaults{FirstVNI: 100, Pool: netip.MustParsePrefix("10.0.0.0/8"), Length: 22}, HostNetworks: true})
	host := c.hostClient()
	var err error
	made := 0
	for ; err == nil && made <= 300; made++ {
		_, err = host.CreateNetwork(t.Context(), &ovlv1.CreateNetworkRequest{Name: "n" + string(rune('a'+made/26%26)) + string(rune('a'+made%26)), Subnets: nil})
	}
	c.refused("one more", err, codes.ResourceExhausted, "the most it may")
	if made-1 != 256 {
		t.Errorf("%d networks made, want 256", made-1)
	}
}
