package api_test

import (
	"context"
	"fmt"
	"net/netip"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/store"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// next returns the next event of a watch; Recv waits, nothing polls.
func next[E any](t *testing.T, s grpc.ServerStreamingClient[E]) *E {
	t.Helper()
	e, err := s.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func wantNetwork(t *testing.T, s grpc.ServerStreamingClient[ovlv1.NetworkEvent], typ ovlv1.EventType, name string) *ovlv1.NetworkEvent {
	t.Helper()
	e := next(t, s)
	if e.GetType() != typ || e.GetNetwork().GetName() != name {
		t.Fatalf("event %v, want %v of %q", e, typ, name)
	}
	return e
}

func TestWatchNetworks(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	w.network("blue")
	w.network("red")
	s := must(w.WatchNetworks(ctx, &ovlv1.WatchRequest{}))(t)
	wantNetwork(t, s, ovlv1.EventType_SNAPSHOT, "blue")
	if e := wantNetwork(t, s, ovlv1.EventType_SNAPSHOT, "red"); e.GetRevision() != 0 {
		t.Errorf("one can resume from revision %d within the snapshot", e.GetRevision())
	}
	if e := wantNetwork(t, s, ovlv1.EventType_SYNCED, ""); e.GetRevision() != w.store.Revision() || e.GetNetwork() != nil {
		t.Errorf("synced: %v", e)
	}
	synced := w.store.Revision()
	w.network("green")
	e := wantNetwork(t, s, ovlv1.EventType_PUT, "green")
	if e.GetRevision() != w.store.Revision() {
		t.Errorf("revision %d, want %d", e.GetRevision(), w.store.Revision())
	}
	must(w.DeleteNetwork(ctx, &ovlv1.DeleteNetworkRequest{Name: "blue"}))(t)
	wantNetwork(t, s, ovlv1.EventType_DELETED, "blue")

	again := must(w.WatchNetworks(ctx, &ovlv1.WatchRequest{ResumeRevision: synced}))(t)
	wantNetwork(t, again, ovlv1.EventType_PUT, "green")
	wantNetwork(t, again, ovlv1.EventType_DELETED, "blue")

	w.store.Compact(w.store.Revision())
	gone := must(w.WatchNetworks(ctx, &ovlv1.WatchRequest{ResumeRevision: synced}))(t)
	_, err := gone.Recv()
	refused(t, err, codes.OutOfRange, "begin again")
	ahead := must(w.WatchNetworks(ctx, &ovlv1.WatchRequest{ResumeRevision: 1 << 40}))(t)
	_, err = ahead.Recv()
	refused(t, err, codes.OutOfRange, "begin again")
}

func TestWatchEnds(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancelled := must(w.WatchEndpoints(ctx, &ovlv1.WatchRequest{}))(t)
	next(t, cancelled)
	cancel()
	_, err := cancelled.Recv()
	refused(t, err, codes.Canceled)

	ended := must(w.WatchEndpoints(t.Context(), &ovlv1.WatchRequest{}))(t)
	next(t, ended)
	w.server.EndWatches()
	_, err = ended.Recv()
	refused(t, err, codes.Unavailable, "shutting down")
	w.network("still")
}

func TestWatchSubnetsOfHost(t *testing.T) {
	w, ctx := populated(t), t.Context()
	s := must(w.WatchSubnets(ctx, &ovlv1.WatchRequest{Network: "blue", Host: "h1"}))(t)
	want := func(typ ovlv1.EventType, prefix, host string) *ovlv1.SubnetEvent {
		t.Helper()
		e := next(t, s)
		if e.GetType() != typ || e.GetSubnet().GetPrefix() != prefix || e.GetSubnet().GetHost() != host {
			t.Fatalf("event %v, want %v of %s", e, typ, prefix)
		}
		return e
	}
	want(ovlv1.EventType_SNAPSHOT, "10.64.10.0/24", "h1")
	want(ovlv1.EventType_SYNCED, "", "")
	// Of another host or network: not told. Then of ours.
	w.lease("blue", "10.64.20.0/24", idB)
	w.lease("red", "10.64.64.0/24", idA)
	w.write(store.Delete(store.SubnetKey("blue", netip.MustParsePrefix("10.64.2.0/24"))))
	w.lease("blue", "10.64.21.0/24", idA)
	if e := want(ovlv1.EventType_PUT, "10.64.21.0/24", "h1"); e.GetSubnet().GetVtepMac() != cluster.VTEPMAC(idA, 100).String() {
		t.Errorf("not joined: %v", e)
	}
	w.write(store.Delete(store.SubnetKey("blue", netip.MustParsePrefix("10.64.10.0/24"))))
	want(ovlv1.EventType_DELETED, "10.64.10.0/24", "")
	// One that goes to another host is gone for whoever looks at ours.
	w.lease("blue", "10.64.21.0/24", idB)
	want(ovlv1.EventType_DELETED, "10.64.21.0/24", "")
}

// Hosts that join after a watch began are known by their names.
func TestWatchEndpointsJoinsNewHosts(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	w.network("blue")
	s := must(w.WatchEndpoints(ctx, &ovlv1.WatchRequest{}))(t)
	next(t, s)
	w.host(cluster.Host{ID: idA, Name: "h1"})
	w.endpoint(cluster.Endpoint{Network: "blue", Host: idA, ID: "c1", Name: "web"})
	if e := next(t, s); e.GetType() != ovlv1.EventType_PUT || e.GetEndpoint().GetHost() != "h1" || e.GetEndpoint().GetName() != "web" {
		t.Errorf("event %v, want web on h1", e)
	}
	w.write(store.Delete(store.EndpointKey("blue", idA, "c1")))
	if e := next(t, s); e.GetType() != ovlv1.EventType_DELETED || e.GetEndpoint().GetId() != "c1" || e.GetEndpoint().GetHost() != "h1" || e.GetEndpoint().GetNetwork() != "blue" {
		t.Errorf("event %v, want c1 gone", e)
	}
}

// Whoever resumes from any event misses nothing, also within one transaction.
func TestWatchResumesWithinARevision(t *testing.T) {
	w, ctx := populated(t), t.Context()
	s := must(w.WatchSubnets(ctx, &ovlv1.WatchRequest{Network: "blue"}))(t)
	for next(t, s).GetType() != ovlv1.EventType_SYNCED {
		continue
	}
	rev := w.write(store.DeletePrefix(store.SubnetsPrefix("blue")))
	first := next(t, s)
	if first.GetRevision() >= rev {
		t.Errorf("the first of three events at %d lets resume from %d", rev, first.GetRevision())
	}
	again := must(w.WatchSubnets(ctx, &ovlv1.WatchRequest{Network: "blue", ResumeRevision: first.GetRevision()}))(t)
	for range 3 {
		if e := next(t, again); e.GetType() != ovlv1.EventType_DELETED {
			t.Errorf("event %v, want a deletion", e)
		}
	}
	next(t, s)
	if last := next(t, s); last.GetRevision() != rev {
		t.Errorf("last event at %d, want %d", last.GetRevision(), rev)
	}
}

// A client that does not read holds up nobody.
func TestWatchSlowClient(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	w.network("blue")
	must(w.WatchEndpoints(ctx, &ovlv1.WatchRequest{}))(t)
	quick := must(w.WatchEndpoints(ctx, &ovlv1.WatchRequest{}))(t)
	next(t, quick)
	const batches, size = 300, 100
	for b := range batches {
		writes := make([]store.Write, size)
		for i := range writes {
			e := cluster.Endpoint{Network: "blue", Host: idA, ID: fmt.Sprintf("c%d", i), Name: fmt.Sprintf("gen%d", b)}
			v, err := store.EncodeEndpoint(e)
			writes[i] = put(t, store.EndpointKey("blue", idA, e.ID), v, err)
		}
		w.write(writes...)
		for range size {
			next(t, quick)
		}
	}
}
