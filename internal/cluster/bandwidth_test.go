package cluster_test

import (
	"testing"

	"github.com/ovlnet/ovl/internal/cluster"
)

func TestBandwidthCheck(t *testing.T) {
	slow := cluster.Rate{Bits: cluster.MinRate, Burst: 1}
	for _, good := range []cluster.Bandwidth{{}, {Ingress: slow}, {Egress: slow}, {Ingress: slow, Egress: cluster.Rate{Bits: cluster.MaxRate, Burst: 1 << 60}}} {
		if err := good.Check(); err != nil {
			t.Errorf("%+v: %v", good, err)
		}
	}
	for _, bad := range []cluster.Rate{{Bits: 1, Burst: 1}, {Bits: cluster.MinRate}, {Burst: 1}, {Bits: cluster.MaxRate + 1, Burst: 1}} {
		if (cluster.Bandwidth{Ingress: bad}).Check() == nil || (cluster.Bandwidth{Egress: bad}).Check() == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
}
