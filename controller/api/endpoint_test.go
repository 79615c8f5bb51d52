package api_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/ovlnet/ovl/internal/cluster"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

func populated(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.network("blue")
	w.network("red")
	w.host(cluster.Host{ID: idA, Name: "h1", Underlay: []netip.Addr{netip.MustParseAddr("192.0.2.1")}})
	w.host(cluster.Host{ID: idB, Name: "h2"})
	w.lease("blue", "10.64.10.0/24", idA)
	w.lease("blue", "10.64.9.0/24", idB)
	w.lease("blue", "10.64.2.0/24", idB)
	w.lease("red", "fd64::/64", idA)
	w.endpoint(cluster.Endpoint{
		Network: "blue", Host: idA, ID: "c1", Name: "web", MAC: cluster.MAC{2, 0, 0, 0, 0, 0xab},
		Addrs: []netip.Addr{netip.MustParseAddr("10.64.10.2"), netip.MustParseAddr("fd64::2")},
	})
	w.endpoint(cluster.Endpoint{Network: "red", Host: idA, ID: "c1", Name: "web"})
	w.endpoint(cluster.Endpoint{Network: "blue", Host: idB, ID: "c2", Name: "db"})
	return w
}

func TestListSubnets(t *testing.T) {
	w, ctx := populated(t), t.Context()
	list := func(req *ovlv1.ListSubnetsRequest) (string, string) {
		t.Helper()
		resp := must(w.ListSubnets(ctx, req))(t)
		var out []string
		for _, s := range resp.GetSubnets() {
			out = append(out, s.GetPrefix()+"@"+s.GetHost())
		}
		return fmt.Sprint(out), resp.GetNextPageToken()
	}
	for _, c := range []struct {
		req  *ovlv1.ListSubnetsRequest
		want string
	}{
		{&ovlv1.ListSubnetsRequest{}, "[10.64.2.0/24@h2 10.64.9.0/24@h2 10.64.10.0/24@h1 fd64::/64@h1]"},
		{&ovlv1.ListSubnetsRequest{Network: "red"}, "[fd64::/64@h1]"},
		{&ovlv1.ListSubnetsRequest{Host: "h2"}, "[10.64.2.0/24@h2 10.64.9.0/24@h2]"},
		{&ovlv1.ListSubnetsRequest{Host: string(idA), Network: "blue"}, "[10.64.10.0/24@h1]"},
	} {
		if got, _ := list(c.req); got != c.want {
			t.Errorf("%v: %s, want %s", c.req, got, c.want)
		}
		// One by one gives the same.
		var pages []string
		for c.req.PageSize = 1; ; {
			page, next := list(c.req)
			pages = append(pages, strings.Trim(page, "[]"))
			if c.req.PageToken = next; next == "" {
				break
			}
		}
		if got := fmt.Sprint(pages); got != c.want {
			t.Errorf("%v in pages: %s, want %s", c.req, got, c.want)
		}
	}
	s := must(w.GetSubnet(ctx, &ovlv1.GetSubnetRequest{Network: "blue", Prefix: "10.64.10.0/24"}))(t)
	if s.GetHostId() != string(idA) || s.GetUnderlay()[0] != "192.0.2.1" || s.GetVtepMac() != cluster.VTEPMAC(idA, 100).String() {
		t.Errorf("subnet: %v", s)
	}
}

func TestEndpoints(t *testing.T) {
	w, ctx := populated(t), t.Context()
	names := func(es []*ovlv1.Endpoint) string {
		var out []string
		for _, e := range es {
			out = append(out, e.GetName()+"."+e.GetNetwork()+"@"+e.GetHost())
		}
		return fmt.Sprint(out)
	}
	for _, c := range []struct {
		req  *ovlv1.ListEndpointsRequest
		want string
	}{
		{&ovlv1.ListEndpointsRequest{}, "[db.blue@h2 web.blue@h1 web.red@h1]"},
		{&ovlv1.ListEndpointsRequest{Network: "blue", Host: "h1"}, "[web.blue@h1]"},
		{&ovlv1.ListEndpointsRequest{PageSize: 2}, "[db.blue@h2 web.blue@h1]"},
	} {
		if got := names(must(w.ListEndpoints(ctx, c.req))(t).GetEndpoints()); got != c.want {
			t.Errorf("%v: %s, want %s", c.req, got, c.want)
		}
	}
	for query, want := range map[string]string{
		"web": "[web.blue@h1 web.red@h1]", "c2": "[db.blue@h2]", "10.64.10.2": "[web.blue@h1]", "fd64:0::2": "[web.blue@h1]",
		"02:00:00:00:00:AB": "[web.blue@h1]", "::ffff:10.64.10.2": "[web.blue@h1]",
	} {
		if got := names(must(w.GetEndpoint(ctx, &ovlv1.GetEndpointRequest{Query: query}))(t).GetEndpoints()); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
	if got := names(must(w.GetEndpoint(ctx, &ovlv1.GetEndpointRequest{Query: "web", Network: "red"}))(t).GetEndpoints()); got != "[web.red@h1]" {
		t.Errorf("web on red: %s", got)
	}
	// The zero MAC is nobody's, though some endpoints have none.
	_, err := w.GetEndpoint(ctx, &ovlv1.GetEndpointRequest{Query: "00:00:00:00:00:00"})
	refused(t, err, codes.NotFound)
}
