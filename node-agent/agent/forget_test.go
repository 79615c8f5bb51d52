package agent

import (
	"log/slog"
	"net/netip"
	"slices"
	"testing"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/store"
	"github.com/ovlnet/ovl/node-agent/lease"
)

// forgetter notes what is forgotten.
type forgetter struct {
	Subnets
	gone []string
}

func (f *forgetter) Forget(network string, _ int64) { f.gone = append(f.gone, network) }

// still is a cluster that has not been seen whole.
type still struct{ Cluster }

// Status implements [Cluster].
func (still) Status() store.MirrorStatus { return store.MirrorStatus{} }

func TestForgetGone(t *testing.T) {
	held := func(network string, created int64, state lease.State) lease.Held {
		return lease.Held{Lease: cluster.Lease{Network: network, Prefix: netip.MustParsePrefix("10.64.1.0/24")}, State: state, NetworkCreated: created}
	}
	snapshot := cluster.NewSnapshot(9, []cluster.Network{{Name: "there", CreateRevision: 3}, {Name: "again", CreateRevision: 7}}, nil, nil)
	atts := []cluster.Attachment{{ID: "a", Interfaces: []cluster.Interface{{Network: "used", NetworkCreated: 3}, {Network: "again", NetworkCreated: 7}}}}
	all := []lease.Held{
		held("there", 3, lease.Lost),      // another host has it
		held("again", 3, lease.Lost),      // one of its name was made since
		held("used", 3, lease.Lost),       // containers are on it
		held("gone", 3, lease.Lost),       // nobody is
		held("fresh", 8, lease.StateHeld), // of a network that the snapshot lacks as yet
	}
	for proven, want := range map[bool][]string{true: {"again", "gone"}, false: nil} {
		f := &forgetter{}
		a := &Agent{cfg: Config{Subnets: f, Cluster: &still{}, Log: slog.New(slog.DiscardHandler)}, live: proven}
		a.forgetGone(snapshot, all, atts)
		if !slices.Equal(f.gone, want) {
			t.Errorf("cluster seen %v: forgotten %v, want %v", proven, f.gone, want)
		}
	}
}
