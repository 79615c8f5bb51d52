package wire

import (
	"github.com/ovlnet/ovl/internal/cluster"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// Bandwidth returns b as a message, nil if it limits nothing.
func Bandwidth(b cluster.Bandwidth) *ovlv1.Bandwidth {
	if b == (cluster.Bandwidth{}) {
		return nil
	}
	return &ovlv1.Bandwidth{IngressRate: b.Ingress.Bits, IngressBurst: b.Ingress.Burst, EgressRate: b.Egress.Bits, EgressBurst: b.Egress.Burst}
}

// ParseBandwidth returns the limits in p, which [cluster.Bandwidth.Check] may refuse.
func ParseBandwidth(p *ovlv1.Bandwidth) cluster.Bandwidth {
	return cluster.Bandwidth{
		Ingress: cluster.Rate{Bits: p.GetIngressRate(), Burst: p.GetIngressBurst()},
		Egress:  cluster.Rate{Bits: p.GetEgressRate(), Burst: p.GetEgressBurst()},
	}
}
