package api_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/store"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

var (
	problem = cluster.Problem{Severity: cluster.SeverityError, Subject: "network blue", What: "broken", Hint: "mend it"}
	warning = cluster.Problem{Severity: cluster.SeverityWarning, Subject: "host h1", What: "odd"}
)

func TestHostStates(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	w.host(cluster.Host{ID: idA, Name: "h1", Underlay: []netip.Addr{netip.MustParseAddr("192.0.2.1")}})
	state := func(want string) *ovlv1.Host {
		t.Helper()
		h := must(w.GetHost(ctx, &ovlv1.GetHostRequest{Name: "h1"}))(t)
		if h.GetState() != want {
			t.Errorf("state %s, want %s", h.GetState(), want)
		}
		return h
	}
	if h := state("down"); h.GetStarted() != nil {
		t.Errorf("a host that is down started at %v", h.GetStarted())
	}
	w.session(cluster.Session{Host: idA, Started: time.Unix(5, 0), AppliedRevision: 3, Problems: []cluster.Problem{warning}})
	if h := state("ready"); h.GetAppliedRevision() != 3 || len(h.GetProblems()) != 1 || h.GetStarted().GetSeconds() != 5 {
		t.Errorf("session not joined in: %v", h)
	}
	w.session(cluster.Session{Host: idA, Problems: []cluster.Problem{problem}})
	state("unhealthy")
	if h := must(w.DrainHost(ctx, &ovlv1.DrainHostRequest{Name: "h1"}))(t); !h.GetDraining() || h.GetState() != "draining" {
		t.Errorf("drained: %v", h)
	}
	state("draining")
	rev := w.store.Revision()
	must(w.DrainHost(ctx, &ovlv1.DrainHostRequest{Name: string(idA)}))(t)
	if w.store.Revision() != rev {
		t.Error("draining twice was written twice")
	}
	must(w.DrainHost(ctx, &ovlv1.DrainHostRequest{Name: "h1", Undo: true}))(t)
	state("unhealthy")
	w.session(cluster.Session{Host: idA})
	state("ready")
	b, err := store.EncodeSession(cluster.Session{Host: idA, Instance: "other"})
	w.write(put(t, store.CloneKey(idA, "other"), b, err))
	if h := state("unhealthy"); len(h.GetProblems()) != 1 {
		t.Errorf("a cloned disk is not shown: %v", h)
	}
}

func TestHostsListAndNames(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	w.network("blue")
	w.host(cluster.Host{ID: idB, Name: "h1"})
	w.host(cluster.Host{ID: idA, Name: "h2"})
	w.lease("blue", "10.64.0.0/24", idA)
	w.lease("blue", "10.64.1.0/24", idA)
	w.endpoint(cluster.Endpoint{Network: "blue", Host: idA, ID: "x"})
	hosts := must(w.ListHosts(ctx, &ovlv1.ListHostsRequest{}))(t).GetHosts()
	if len(hosts) != 2 || hosts[0].GetName() != "h1" || hosts[1].GetSubnets() != 2 || hosts[1].GetEndpoints() != 1 {
		t.Errorf("hosts: %v", hosts)
	}
	one := must(w.ListHosts(ctx, &ovlv1.ListHostsRequest{PageSize: 1}))(t)
	two := must(w.ListHosts(ctx, &ovlv1.ListHostsRequest{PageSize: 1, PageToken: one.GetNextPageToken()}))(t)
	if two.GetHosts()[0].GetName() != "h2" || two.GetNextPageToken() != "" {
		t.Errorf("second page: %v", two)
	}
	if h := must(w.GetHost(ctx, &ovlv1.GetHostRequest{Name: string(idB)}))(t); h.GetName() != "h1" {
		t.Errorf("by ID: %v", h)
	}
	w.host(cluster.Host{ID: idA, Name: "h1"})
	_, err := w.GetHost(ctx, &ovlv1.GetHostRequest{Name: "h1"})
	refused(t, err, codes.FailedPrecondition, string(idA), string(idB))
}

func TestDeleteHost(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	w.network("blue")
	w.network("red")
	w.host(cluster.Host{ID: idA, Name: "h1"})
	w.host(cluster.Host{ID: idB, Name: "h2"})
	w.session(cluster.Session{Host: idA})
	// More than one transaction holds.
	for i := range 230 {
		w.lease("blue", fmt.Sprintf("10.80.%d.0/24", i), idA)
	}
	w.lease("blue", "10.90.0.0/24", idB)
	w.endpoint(cluster.Endpoint{Network: "blue", Host: idA, ID: "x"})
	w.endpoint(cluster.Endpoint{Network: "red", Host: idA, ID: "x"})
	w.endpoint(cluster.Endpoint{Network: "red", Host: idB, ID: "x"})
	must(w.DrainHost(ctx, &ovlv1.DrainHostRequest{Name: "h1"}))(t)
	_, err := w.DeleteHost(ctx, &ovlv1.DeleteHostRequest{Name: "h1"})
	refused(t, err, codes.FailedPrecondition, "agent is up", "force")
	if n := must(w.GetStatus(ctx, &ovlv1.GetStatusRequest{}))(t).GetSubnets(); n != 231 {
		t.Errorf("%d subnets after a refusal, want all 231", n)
	}
	w.write(store.Delete(store.SessionKey(idA)))
	must(w.DeleteHost(ctx, &ovlv1.DeleteHostRequest{Name: "h1"}))(t)
	page, err := w.agent.Range(ctx, store.HostsPrefix, store.SubnetsPrefix(""), store.EndpointsPrefix(""), store.DrainsPrefix, store.SessionsPrefix)
	if err != nil || len(page.Records) != 3 {
		t.Errorf("left behind %d records, %v; want host, subnet and endpoint of h2", len(page.Records), err)
	}
	w.session(cluster.Session{Host: idB})
	must(w.DeleteHost(ctx, &ovlv1.DeleteHostRequest{Name: "h2", Force: true}))(t)
	if page, _ := w.agent.Range(ctx, store.SessionsPrefix, store.HostsPrefix); len(page.Records) != 0 {
		t.Errorf("forced, but left behind %v", page.Records)
	}
}

func TestStatus(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	w.network("blue")
	w.host(cluster.Host{ID: idA, Name: "h1"})
	w.host(cluster.Host{ID: idB, Name: "h2"})
	w.session(cluster.Session{Host: idA, Problems: []cluster.Problem{problem}})
	w.write(store.Put(store.SubnetsPrefix("blue")+"x", []byte("{}"), 0))
	st := must(w.GetStatus(ctx, &ovlv1.GetStatusRequest{}))(t)
	if !st.GetEtcdHealthy() || !st.GetEtcdEmbedded() || st.GetHosts() != 2 || st.GetHostsReady() != 0 || st.GetNetworks() != 1 || st.GetRevision() != w.store.Revision() {
		t.Errorf("status: %v", st)
	}
	var subjects []string
	for _, p := range st.GetProblems() {
		subjects = append(subjects, p.GetSubject())
	}
	if got, want := fmt.Sprint(subjects), "[store host h1, network blue host h2]"; got != want {
		t.Errorf("problems of %s, want %s", got, want)
	}
	w.session(cluster.Session{Host: idA})
	w.session(cluster.Session{Host: idB})
	if st := must(w.GetStatus(ctx, &ovlv1.GetStatusRequest{}))(t); st.GetHostsReady() != 2 || len(st.GetProblems()) != 1 {
		t.Errorf("status with all hosts up: %v", st)
	}
}
