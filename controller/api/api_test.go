package api_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/ovlnet/ovl/controller/admit"
	"github.com/ovlnet/ovl/controller/api"
	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/store"
	"github.com/ovlnet/ovl/internal/store/mem"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

const (
	idA = cluster.HostID("0000000000000000000000000000000a")
	idB = cluster.HostID("0000000000000000000000000000000b")
)

// client speaks to one controller.
type client struct {
	ovlv1.NetworkServiceClient
	ovlv1.HostServiceClient
	ovlv1.SubnetServiceClient
	ovlv1.EndpointServiceClient
	ovlv1.ControllerServiceClient

	server *api.Server
}

// dial starts a controller over a store, and returns a client of it.
func dial(t *testing.T, kv store.KV) *client {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	s := api.New(api.Config{
		Store: kv, Log: log, StoreTimeout: time.Second,
		Defaults: admit.Defaults{FirstVNI: 100, Pool: netip.MustParsePrefix("10.64.0.0/10"), Length: 18},
		About:    api.About{Version: "v9", Commit: "c0ffee", Started: time.Unix(1, 0), EtcdEndpoints: []string{"mem"}, EtcdEmbedded: true},
	})
	rpc := grpc.NewServer(s.Options(nil)...)
	s.Register(rpc)
	l := bufconn.Listen(1 << 20)
	served := make(chan struct{})
	go func() { defer close(served); _ = rpc.Serve(l) }()
	conn, err := grpc.NewClient("passthrough:///mem", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(); rpc.Stop(); <-served })
	return &client{
		NetworkServiceClient: ovlv1.NewNetworkServiceClient(conn), HostServiceClient: ovlv1.NewHostServiceClient(conn),
		SubnetServiceClient: ovlv1.NewSubnetServiceClient(conn), EndpointServiceClient: ovlv1.NewEndpointServiceClient(conn),
		ControllerServiceClient: ovlv1.NewControllerServiceClient(conn), server: s,
	}
}

// world is a store with a controller and a hand to write as agents do.
type world struct {
	*client

	t     *testing.T
	store *mem.Store
	kv    *mem.Client // the controller's
	agent *mem.Client
}

func newWorld(t *testing.T) *world {
	t.Helper()
	s := mem.New()
	t.Cleanup(func() { _ = s.Close() })
	kv := s.NewClient()
	return &world{client: dial(t, kv), t: t, store: s, kv: kv, agent: s.NewClient()}
}

func (w *world) write(writes ...store.Write) int64 {
	w.t.Helper()
	rev, err := w.agent.Txn(w.t.Context(), nil, writes)
	if err != nil {
		w.t.Fatal(err)
	}
	return rev
}

func put(t *testing.T, key string, value []byte, err error) store.Write {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return store.Put(key, value, 0)
}

func (w *world) host(h cluster.Host) {
	w.t.Helper()
	h.VXLANPort = 4789
	b, err := store.EncodeHost(h)
	w.write(put(w.t, store.HostKey(h.ID), b, err))
}

func (w *world) session(s cluster.Session) {
	w.t.Helper()
	s.Instance = "i"
	b, err := store.EncodeSession(s)
	w.write(put(w.t, store.SessionKey(s.Host), b, err))
}

func (w *world) lease(network, prefix string, host cluster.HostID) int64 {
	w.t.Helper()
	l := cluster.Lease{Network: network, Prefix: netip.MustParsePrefix(prefix), Host: host}
	b, err := store.EncodeLease(l)
	return w.write(put(w.t, store.SubnetKey(network, l.Prefix), b, err))
}

func (w *world) endpoint(e cluster.Endpoint) int64 {
	w.t.Helper()
	b, err := store.EncodeEndpoint(e)
	return w.write(put(w.t, store.EndpointKey(e.Network, e.Host, e.ID), b, err))
}

func (w *world) network(name string) *ovlv1.Network {
	w.t.Helper()
	n, err := w.CreateNetwork(w.t.Context(), &ovlv1.CreateNetworkRequest{Name: name})
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// refused fails unless err has the code and its one line holds all words.
func refused(t *testing.T, err error, code codes.Code, words ...string) {
	t.Helper()
	st := status.Convert(err)
	if st.Code() != code {
		t.Fatalf("answer is %v %q, want %v", st.Code(), st.Message(), code)
	}
	for _, word := range words {
		if !strings.Contains(st.Message(), word) {
			t.Errorf("message %q does not say %q", st.Message(), word)
		}
	}
	if strings.ContainsAny(st.Message(), "\n\x1b") {
		t.Errorf("message %q is not one clean line", st.Message())
	}
}

// fields returns the fields that a BadRequest among the details names.
func fields(err error) []string {
	var out []string
	for _, d := range status.Convert(err).Details() {
		if br, ok := d.(*errdetails.BadRequest); ok {
			for _, v := range br.GetFieldViolations() {
				out = append(out, v.GetField())
			}
		}
	}
	return out
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestEveryInvalidFieldIsNamed(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	for _, c := range []struct {
		name string
		call func() error
		want string
	}{
		{"create", func() error {
			_, err := w.CreateNetwork(ctx, &ovlv1.CreateNetworkRequest{Name: "B", Subnets: []string{"10.0.0.1/16"}, Vni: 1 << 24})
			return err
		}, "[name subnets[0] vni]"},
		{"create default", func() error {
			_, err := w.CreateNetwork(ctx, &ovlv1.CreateNetworkRequest{Name: "b", HostPrefixes: []uint32{12}})
			return err
		}, "[host_prefixes[0]]"},
		{"get", func() error { _, err := w.GetNetwork(ctx, &ovlv1.GetNetworkRequest{}); return err }, "[name]"},
		{"update", func() error {
			_, err := w.UpdateNetwork(ctx, &ovlv1.UpdateNetworkRequest{Name: "_"})
			return err
		}, "[name]"},
		{"delete", func() error {
			_, err := w.DeleteNetwork(ctx, &ovlv1.DeleteNetworkRequest{Name: "a/"})
			return err
		}, "[name]"},
		{"list", func() error {
			_, err := w.ListNetworks(ctx, &ovlv1.ListNetworksRequest{PageSize: -1, PageToken: "x"})
			return err
		}, "[page_size page_token]"},
		{"hosts", func() error {
			_, err := w.ListHosts(ctx, &ovlv1.ListHostsRequest{PageSize: 1001})
			return err
		}, "[page_size]"},
		{"host", func() error { _, err := w.GetHost(ctx, &ovlv1.GetHostRequest{Name: "h 1"}); return err }, "[name]"},
		{"subnets", func() error {
			_, err := w.ListSubnets(ctx, &ovlv1.ListSubnetsRequest{Network: "/", Host: "*"})
			return err
		}, "[network host]"},
		{"subnet", func() error {
			_, err := w.GetSubnet(ctx, &ovlv1.GetSubnetRequest{Prefix: "10.64.0.1/24"})
			return err
		}, "[network prefix]"},
		{"endpoint", func() error {
			_, err := w.GetEndpoint(ctx, &ovlv1.GetEndpointRequest{Query: "\n", Network: "A"})
			return err
		}, "[query network]"},
		{"watch", func() error {
			s, err := w.WatchNetworks(ctx, &ovlv1.WatchRequest{ResumeRevision: -1})
			if err == nil {
				_, err = s.Recv()
			}
			return err
		}, "[resume_revision]"},
		{"watch networks of a host", func() error {
			s, err := w.WatchNetworks(ctx, &ovlv1.WatchRequest{Host: "h"})
			if err == nil {
				_, err = s.Recv()
			}
			return err
		}, "[host]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.call()
			refused(t, err, codes.InvalidArgument)
			if got := fmt.Sprint(fields(err)); got != c.want {
				t.Errorf("fields %s, want %s", got, c.want)
			}
		})
	}
}

func TestUnknownIsNotFound(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	w.network("blue2") // a key of which blue is a prefix
	for name, call := range map[string]func() error{
		"get":             func() error { _, err := w.GetNetwork(ctx, &ovlv1.GetNetworkRequest{Name: "blue"}); return err },
		"update":          func() error { _, err := w.UpdateNetwork(ctx, &ovlv1.UpdateNetworkRequest{Name: "blue"}); return err },
		"delete":          func() error { _, err := w.DeleteNetwork(ctx, &ovlv1.DeleteNetworkRequest{Name: "blue"}); return err },
		"host":            func() error { _, err := w.GetHost(ctx, &ovlv1.GetHostRequest{Name: "h9"}); return err },
		"drain":           func() error { _, err := w.DrainHost(ctx, &ovlv1.DrainHostRequest{Name: "h9"}); return err },
		"rm":              func() error { _, err := w.DeleteHost(ctx, &ovlv1.DeleteHostRequest{Name: "h9"}); return err },
		"subnets network": func() error { _, err := w.ListSubnets(ctx, &ovlv1.ListSubnetsRequest{Network: "blue"}); return err },
		"subnets host":    func() error { _, err := w.ListSubnets(ctx, &ovlv1.ListSubnetsRequest{Host: "h9"}); return err },
		"subnet": func() error {
			_, err := w.GetSubnet(ctx, &ovlv1.GetSubnetRequest{Network: "blue2", Prefix: "10.64.0.0/24"})
			return err
		},
		"endpoints": func() error { _, err := w.ListEndpoints(ctx, &ovlv1.ListEndpointsRequest{Network: "blue"}); return err },
		"endpoint":  func() error { _, err := w.GetEndpoint(ctx, &ovlv1.GetEndpointRequest{Query: "web"}); return err },
		"watch": func() error {
			s, err := w.WatchSubnets(ctx, &ovlv1.WatchRequest{Network: "blue"})
			if err == nil {
				_, err = s.Recv()
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) { refused(t, call(), codes.NotFound, "ovlctl") })
	}
}

func TestStoreAway(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	w.network("blue")
	w.kv.SetConnected(false)
	_, err := w.CreateNetwork(ctx, &ovlv1.CreateNetworkRequest{Name: "red"})
	refused(t, err, codes.Unavailable, "create network red", "etcd")
	retry := false
	for _, d := range status.Convert(err).Details() {
		info, ok := d.(*errdetails.RetryInfo)
		retry = retry || ok && info.GetRetryDelay().AsDuration() > 0
	}
	if !retry {
		t.Error("UNAVAILABLE does not say when to try again")
	}
	st := must(w.GetStatus(ctx, &ovlv1.GetStatusRequest{}))(t)
	if st.GetEtcdHealthy() || len(st.GetProblems()) != 1 || st.GetVersion() != "v9" {
		t.Errorf("status while the store is away: %v", st)
	}
	w.kv.SetConnected(true)
	must(w.GetNetwork(ctx, &ovlv1.GetNetworkRequest{Name: "blue"}))(t)
}

// silent is a store that never answers a read.
type silent struct{ store.KV }

func (silent) Range(ctx context.Context, _ ...string) (store.Page, error) {
	<-ctx.Done()
	return store.Page{}, ctx.Err()
}

// A store that does not answer is unavailable; only the caller's own time makes
// a call late.
func TestStoreSilent(t *testing.T) {
	c := dial(t, silent{})
	_, err := c.GetNetwork(t.Context(), &ovlv1.GetNetworkRequest{Name: "blue"})
	refused(t, err, codes.Unavailable, "etcd")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = c.GetNetwork(ctx, &ovlv1.GetNetworkRequest{Name: "blue"})
	refused(t, err, codes.DeadlineExceeded)
}
