package dockerdriver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/plan"
	"github.com/ovlnet/ovl/node-agent/attach"
)

// fakeRoom is an attach room without a loop: stages change at once, and addresses are the
// next ones of one subnet per family.
type fakeRoom struct {
	cluster  *fakeCluster
	atts     map[string]cluster.Attachment
	reserved map[netip.Addr]bool
	last     map[netip.Prefix]netip.Addr
	fail     error // of the next change
	calls    []string
}

func (r *fakeRoom) note(what string) error {
	r.calls = append(r.calls, what)
	err := r.fail
	r.fail = nil
	return err
}

// subnet is this host's part of a pool.
func subnet(pool netip.Prefix) netip.Prefix {
	if pool.Addr().Is4() {
		return netip.PrefixFrom(pool.Addr(), 24)
	}
	return netip.PrefixFrom(pool.Addr(), 64)
}

func (r *fakeRoom) Reserve(_ context.Context, _ string, pool netip.Prefix, want netip.Addr) (netip.Prefix, error) {
	if err := r.note("reserve"); err != nil {
		return netip.Prefix{}, err
	}
	own := subnet(pool)
	a := want
	for !a.IsValid() { // none twice, as the real one rests them
		if r.last[own] = r.last[own].Next(); !r.last[own].IsValid() {
			r.last[own] = own.Addr().Next().Next()
		}
		if !r.taken(r.last[own]) {
			a = r.last[own]
		}
	}
	if r.taken(a) {
		return netip.Prefix{}, status.Errorf(codes.AlreadyExists, "address %s is in use", a)
	}
	r.reserved[a] = true
	return netip.PrefixFrom(a, own.Bits()), nil
}

func (r *fakeRoom) taken(a netip.Addr) bool {
	for _, att := range r.atts {
		if att.Interfaces[0].HasAddr(a) {
			return true
		}
	}
	return r.reserved[a]
}

func (r *fakeRoom) Unreserve(_ string, a netip.Addr) { delete(r.reserved, a) }

func (r *fakeRoom) Gateway(string, netip.Prefix) (netip.Addr, bool) { return netip.Addr{}, false }

func (r *fakeRoom) Offer(ctx context.Context, q attach.Request) (cluster.Attachment, error) {
	if err := r.note("offer"); err != nil {
		return cluster.Attachment{}, err
	}
	w := q.Interfaces[0]
	n, ok := r.cluster.Snapshot().Network(w.Network)
	if !ok {
		return cluster.Attachment{}, status.Error(codes.NotFound, "no such network")
	}
	i := cluster.Interface{Network: n.Name, Name: plan.OfferName(q.ID), MAC: w.MAC}
	for _, pool := range n.Pools {
		at := slices.IndexFunc(w.Addrs, pool.Prefix.Contains)
		if at < 0 {
			p, err := r.Reserve(ctx, n.Name, pool.Prefix, netip.Addr{})
			if err != nil {
				return cluster.Attachment{}, err
			}
			i.Addrs = append(i.Addrs, p)
			continue
		}
		i.Addrs = append(i.Addrs, netip.PrefixFrom(w.Addrs[at], subnet(pool.Prefix).Bits()))
	}
	for _, p := range i.Addrs {
		delete(r.reserved, p.Addr())
	}
	if i.MAC.IsZero() {
		i.MAC = cluster.EndpointMAC(n.VNI, i.Addrs[0].Addr())
	}
	att := cluster.Attachment{ID: q.ID, Name: q.Name, Stage: cluster.Offered, Interfaces: []cluster.Interface{i}, Created: time.Unix(1e9, 0)}
	r.atts[q.ID] = att
	return att, nil
}

func (r *fakeRoom) change(what, id string, f func(*cluster.Attachment)) (cluster.Attachment, error) {
	if err := r.note(what); err != nil {
		return cluster.Attachment{}, err
	}
	att, ok := r.atts[id]
	if !ok {
		return att, status.Errorf(codes.NotFound, "%s: there is no such container on this host", what)
	}
	f(&att)
	r.atts[id] = att
	return att, nil
}

func (r *fakeRoom) HandOver(_ context.Context, id, sandbox string, onward bool) (cluster.Attachment, error) {
	return r.change("hand over", id, func(a *cluster.Attachment) { a.Stage, a.Sandbox, a.Onward = cluster.HandedOver, sandbox, onward })
}

func (r *fakeRoom) TakeBack(_ context.Context, id string) error {
	_, err := r.change("take back", id, func(a *cluster.Attachment) { a.Stage = cluster.TakenBack })
	return err
}

func (r *fakeRoom) Publish(_ context.Context, id string, ports []attach.PortWant) (cluster.Attachment, error) {
	return r.change("publish", id, func(a *cluster.Attachment) {
		a.Ports = nil
		for _, p := range ports {
			a.Ports = append(a.Ports, cluster.Port{Proto: p.Proto, HostIP: p.HostIP, HostPort: p.First, ContainerPort: p.ContainerPort})
		}
	})
}

func (r *fakeRoom) Describe(_ context.Context, id string, is attach.Description) error {
	_, err := r.change("describe", id, func(a *cluster.Attachment) { a.Name = is.Name })
	return err
}

func (r *fakeRoom) Dismiss(_ context.Context, id string) error {
	_, err := r.change("dismiss", id, func(*cluster.Attachment) {})
	delete(r.atts, id)
	return err
}

func (r *fakeRoom) Get(id string) (cluster.Attachment, bool) { a, ok := r.atts[id]; return a, ok }

func (r *fakeRoom) List() []cluster.Attachment {
	var out []cluster.Attachment
	for _, a := range r.atts {
		out = append(out, a)
	}
	slices.SortFunc(out, func(a, b cluster.Attachment) int { return strings.Compare(a.ID, b.ID) })
	return out
}

type fakeCluster struct {
	networks []cluster.Network
	unseen   []cluster.Network // known after a Refresh
	hosts    []cluster.Host
	away     error
}

func (c *fakeCluster) Snapshot() *cluster.Snapshot {
	return cluster.NewSnapshot(1, slices.Clone(c.networks), slices.Clone(c.hosts), nil)
}

func (c *fakeCluster) Refresh(context.Context) error {
	if c.away == nil {
		c.networks, c.unseen = append(c.networks, c.unseen...), nil
	}
	return c.away
}

var errAway = errors.New("the store is away")

func network(name string, vni cluster.VNI, pools ...string) cluster.Network {
	n := cluster.Network{Name: name, VNI: vni, Driver: cluster.DriverOverlay}
	for _, p := range pools {
		prefix := netip.MustParsePrefix(p)
		n.Pools = append(n.Pools, cluster.Pool{Prefix: prefix, HostPrefix: subnet(prefix).Bits()})
	}
	return n
}

// rig is a driver behind its server, with fakes around it.
type rig struct {
	*Driver
	server  *Server
	room    *fakeRoom
	cluster *fakeCluster
	book    *Book
}

func newRig(t testing.TB, networks ...cluster.Network) *rig {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(t.TempDir(), "agent.db"), 0o600, &bbolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	book, err := OpenBook(db)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	c := &fakeCluster{networks: networks}
	r := &rig{server: NewServer(log), cluster: c, book: book, room: &fakeRoom{cluster: c, atts: map[string]cluster.Attachment{}, reserved: map[netip.Addr]bool{}, last: map[netip.Prefix]netip.Addr{}}}
	r.Driver = New(Config{Attachments: r.room, Cluster: c, Book: book, Log: log})
	r.server.Ready(r.Driver)
	return r
}

// call asks as an engine does and returns the answer with its error taken out.
func (r *rig) call(t testing.TB, method, body string) (answer map[string]any, failure string) {
	t.Helper()
	w := httptest.NewRecorder()
	r.server.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/"+method, bytes.NewBufferString(body)))
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
		t.Fatalf("%s: answer %q: %v", method, w.Body, err)
	}
	for _, field := range []string{"Err", "Error"} {
		if text, ok := answer[field].(string); ok {
			failure = text
			delete(answer, field)
		}
	}
	return answer, failure
}

// must is call that must not fail.
func (r *rig) must(t testing.TB, method, body string) map[string]any {
	t.Helper()
	answer, failure := r.call(t, method, body)
	if failure != "" {
		t.Fatalf("%s: %s", method, failure)
	}
	return answer
}
