package api_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sync/errgroup"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/store"
	"github.com/ovlnet/ovl/internal/store/mem"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

func TestCreateNetwork(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	req := &ovlv1.CreateNetworkRequest{Name: "blue", Labels: map[string]string{"team": "net"}}
	first := must(w.CreateNetwork(ctx, req))(t)
	if first.GetVni() != 100 || first.GetSubnets()[0] != "10.64.0.0/18" || first.GetHostPrefixes()[0] != 24 || !first.GetMasquerade() || first.GetDriver() != ovlv1.Driver_overlay {
		t.Errorf("defaults: %v", first)
	}
	again := must(w.CreateNetwork(ctx, req))(t)
	if !proto.Equal(first, again) {
		t.Errorf("identical creation gave %v, want %v", again, first)
	}
	if got := must(w.GetNetwork(ctx, &ovlv1.GetNetworkRequest{Name: "blue"}))(t); !proto.Equal(first, got) {
		t.Errorf("got %v, want %v", got, first)
	}
	_, err := w.CreateNetwork(ctx, &ovlv1.CreateNetworkRequest{Name: "blue", Vni: 7, Internal: true})
	refused(t, err, codes.AlreadyExists, "VNI is 100, not 7", "internal", "labels")

	second := must(w.CreateNetwork(ctx, &ovlv1.CreateNetworkRequest{Name: "red", HostPrefixes: []uint32{26}}))(t)
	if second.GetVni() != 101 || second.GetSubnets()[0] != "10.64.64.0/18" || second.GetHostPrefixes()[0] != 26 {
		t.Errorf("second network: %v", second)
	}
	reserved, err := w.agent.Range(ctx, store.VNIsPrefix)
	if err != nil || len(reserved.Records) != 2 {
		t.Errorf("reserved VNIs: %v, %v", reserved.Records, err)
	}
}

func TestCreateNetworkCollides(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	w.network("red")
	w.host(cluster.Host{ID: idA, Name: "h1", Underlay: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Routes: []netip.Prefix{netip.MustParsePrefix("172.17.0.0/16")}})
	for _, c := range []struct {
		req   *ovlv1.CreateNetworkRequest
		field string
		words []string
	}{
		{&ovlv1.CreateNetworkRequest{Vni: 100}, "vni", []string{"network red"}},
		{&ovlv1.CreateNetworkRequest{Subnets: []string{"10.64.0.0/16"}}, "subnets[0]", []string{"network red"}},
		{&ovlv1.CreateNetworkRequest{Subnets: []string{"192.0.0.0/16"}}, "subnets[0]", []string{"192.0.2.1 of host h1"}},
		{&ovlv1.CreateNetworkRequest{Subnets: []string{"172.16.0.0/12"}}, "subnets[0]", []string{"172.17.0.0/16 of host h1"}},
	} {
		c.req.Name = "blue"
		_, err := w.CreateNetwork(ctx, c.req)
		refused(t, err, codes.FailedPrecondition, c.words...)
		d, ok := status.Convert(err).Details()[0].(*errdetails.PreconditionFailure)
		if !ok || d.GetViolations()[0].GetSubject() != c.field {
			t.Errorf("details %v, want %s", status.Convert(err).Details(), c.field)
		}
	}
	if n := len(must(w.ListNetworks(ctx, &ovlv1.ListNetworksRequest{}))(t).GetNetworks()); n != 1 {
		t.Errorf("%d networks after refusals, want 1", n)
	}
}

// A network that cannot be read may hold what is asked for.
func TestCreateNetworkBesideUnreadable(t *testing.T) {
	w := newWorld(t)
	w.write(store.Put(store.NetworkKey("odd"), []byte("{"), 0))
	_, err := w.CreateNetwork(t.Context(), &ovlv1.CreateNetworkRequest{Name: "blue"})
	refused(t, err, codes.FailedPrecondition, "networks/odd")
	_, err = w.GetNetwork(t.Context(), &ovlv1.GetNetworkRequest{Name: "odd"})
	refused(t, err, codes.DataLoss, "odd")
	st := must(w.GetStatus(t.Context(), &ovlv1.GetStatusRequest{}))(t)
	if len(st.GetProblems()) != 1 {
		t.Errorf("problems %v, want the record", st.GetProblems())
	}
}

// Several controllers on one store never give out one VNI or subnet twice.
func TestConcurrentControllers(t *testing.T) {
	s := mem.New()
	defer func() { _ = s.Close() }()
	clients := []*client{dial(t, s.NewClient()), dial(t, s.NewClient()), dial(t, s.NewClient())}
	const n = 200
	made := make([]*ovlv1.Network, n)
	var group errgroup.Group
	for i := range n {
		group.Go(func() (err error) {
			made[i], err = clients[i%len(clients)].CreateNetwork(t.Context(), &ovlv1.CreateNetworkRequest{Name: fmt.Sprintf("n%d", i)})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	vnis := map[uint32]string{}
	var pools []netip.Prefix
	for _, m := range made {
		if other, taken := vnis[m.GetVni()]; taken {
			t.Errorf("networks %s and %s have VNI %d", other, m.GetName(), m.GetVni())
		}
		vnis[m.GetVni()] = m.GetName()
		p := netip.MustParsePrefix(m.GetSubnets()[0])
		if slices.ContainsFunc(pools, p.Overlaps) {
			t.Errorf("subnet %s of %s overlaps another", p, m.GetName())
		}
		pools = append(pools, p)
	}
}

// The same subnet asked for everywhere at once: one wins.
func TestConcurrentSameSubnet(t *testing.T) {
	s := mem.New()
	defer func() { _ = s.Close() }()
	clients := []*client{dial(t, s.NewClient()), dial(t, s.NewClient())}
	errs := make([]error, 20)
	var group errgroup.Group
	for i := range errs {
		group.Go(func() error {
			// Overlapping, not equal: no key of theirs is the same.
			subnet := fmt.Sprintf("10.9.0.0/%d", 10+i%6)
			_, errs[i] = clients[i%2].CreateNetwork(t.Context(), &ovlv1.CreateNetworkRequest{Name: fmt.Sprintf("n%d", i), Subnets: []string{netip.MustParsePrefix(subnet).Masked().String()}})
			return nil
		})
	}
	_ = group.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
			continue
		}
		refused(t, err, codes.FailedPrecondition, "overlaps")
	}
	if won != 1 {
		t.Errorf("%d of overlapping creations succeeded, want 1", won)
	}
}

func TestListNetworksPages(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	for _, name := range []string{"a", "b", "d", "e"} {
		w.network(name)
	}
	names := func(resp *ovlv1.ListNetworksResponse) string {
		var out []string
		for _, n := range resp.GetNetworks() {
			out = append(out, n.GetName())
		}
		return fmt.Sprint(out)
	}
	one := must(w.ListNetworks(ctx, &ovlv1.ListNetworksRequest{PageSize: 2}))(t)
	if names(one) != "[a b]" || one.GetNextPageToken() == "" || one.GetRevision() != w.store.Revision() {
		t.Fatalf("first page: %v", one)
	}
	// What comes and goes in between moves nothing: b, the last seen, vanishes.
	w.network("c")
	must(w.DeleteNetwork(ctx, &ovlv1.DeleteNetworkRequest{Name: "b"}))(t)
	two := must(w.ListNetworks(ctx, &ovlv1.ListNetworksRequest{PageSize: 2, PageToken: one.GetNextPageToken()}))(t)
	if names(two) != "[c d]" {
		t.Fatalf("second page: %v", two)
	}
	three := must(w.ListNetworks(ctx, &ovlv1.ListNetworksRequest{PageSize: 2, PageToken: two.GetNextPageToken()}))(t)
	if names(three) != "[e]" || three.GetNextPageToken() != "" {
		t.Fatalf("third page: %v", three)
	}
	_, err := w.ListHosts(ctx, &ovlv1.ListHostsRequest{PageToken: one.GetNextPageToken()})
	refused(t, err, codes.InvalidArgument, "another list")
}

func TestUpdateNetwork(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	n := w.network("blue")
	up := must(w.UpdateNetwork(ctx, &ovlv1.UpdateNetworkRequest{Name: "blue", Revision: n.GetRevision(), Mtu: new(uint32(1400))}))(t)
	if up.GetMtu() != 1400 || up.GetRevision() <= n.GetRevision() || up.GetVni() != n.GetVni() {
		t.Errorf("updated to %v", up)
	}
	_, err := w.UpdateNetwork(ctx, &ovlv1.UpdateNetworkRequest{Name: "blue", Revision: n.GetRevision(), Mtu: new(uint32(1300))})
	refused(t, err, codes.Aborted, "read it again")
	_, err = w.UpdateNetwork(ctx, &ovlv1.UpdateNetworkRequest{Name: "blue", Mtu: new(uint32(1))})
	refused(t, err, codes.InvalidArgument, "mtu")
	same := must(w.UpdateNetwork(ctx, &ovlv1.UpdateNetworkRequest{Name: "blue", Mtu: new(uint32(1400))}))(t)
	if same.GetRevision() != up.GetRevision() {
		t.Error("an update that changes nothing was written")
	}
}

func TestDeleteNetwork(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	w.network("blue")
	w.network("blue2")
	w.host(cluster.Host{ID: idA, Name: "h1"})
	w.lease("blue", "10.64.0.0/24", idA)
	w.lease("blue2", "10.64.64.0/24", idA)
	for i := range 5 {
		w.endpoint(cluster.Endpoint{Network: "blue", Host: idA, ID: fmt.Sprintf("id%d", i), Name: fmt.Sprintf("c%d", i)})
	}
	_, err := w.DeleteNetwork(ctx, &ovlv1.DeleteNetworkRequest{Name: "blue"})
	refused(t, err, codes.FailedPrecondition, "c0 on h1, c1 on h1, c2 on h1 and 2 more")
	must(w.DeleteNetwork(ctx, &ovlv1.DeleteNetworkRequest{Name: "blue", Force: true}))(t)
	page, err := w.agent.Range(ctx, store.Root)
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, r := range page.Records {
		keys = append(keys, r.Key[len(store.Root):])
	}
	want := []string{"allocation", "hosts/" + string(idA), "networks/blue2", "subnets/blue2/10.64.64.0-24", "vnis/101"}
	if !slices.Equal(keys, want) {
		t.Errorf("left behind %v, want %v", keys, want)
	}
	// What it held can be had again.
	if n := w.network("green"); n.GetVni() != 100 || n.GetSubnets()[0] != "10.64.0.0/18" {
		t.Errorf("after the deletion: %v", n)
	}
}
