package wire

import (
	"fmt"
	"math"

	"github.com/ovlnet/ovl/internal/cluster"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// HostDetail is what the message of a host says beyond the host's own record.
type HostDetail struct {
	State     string           // ready, unhealthy, down or draining
	Session   *cluster.Session // nil: the agent is not up
	Subnets   int              // how many the host holds
	Endpoints int              // how many it has
}

// Host returns h as a message.
func Host(h cluster.Host, d HostDetail) *ovlv1.Host {
	p := &ovlv1.Host{
		Id: string(h.ID), Name: h.Name, Underlay: addrTexts(h.Underlay), VxlanPort: uint32(h.VXLANPort),
		Version: h.Version, Draining: h.Draining, State: d.State, Routes: prefixTexts(h.Routes),
		Subnets: unsigned(d.Subnets), Endpoints: unsigned(d.Endpoints),
	}
	if d.Session != nil {
		p.Started = timestamp(d.Session.Started)
		p.AppliedRevision = d.Session.AppliedRevision
		p.Problems = Problems(d.Session.Problems)
	}
	return p
}

// ParseHost returns the host's own record in p. The message does not carry its
// revision.
func ParseHost(p *ovlv1.Host) (cluster.Host, error) {
	fail := func(err error) (cluster.Host, error) {
		return cluster.Host{}, fmt.Errorf("parse host %q: %w", p.GetName(), err)
	}
	id, err := cluster.ParseHostID(p.GetId())
	if err != nil {
		return fail(err)
	}
	underlay, err := parseAddrs(p.GetUnderlay())
	if err != nil {
		return fail(err)
	}
	routes, err := parsePrefixes(p.GetRoutes())
	if err != nil {
		return fail(err)
	}
	if p.GetVxlanPort() > math.MaxUint16 {
		return fail(fmt.Errorf("VXLAN port %d: beyond 65535", p.GetVxlanPort()))
	}
	return cluster.Host{
		ID: id, Name: p.GetName(), Underlay: underlay, VXLANPort: uint16(p.GetVxlanPort()),
		Routes: routes, Version: p.GetVersion(), Draining: p.GetDraining(),
	}, nil
}

// Problem returns p as a message.
func Problem(p cluster.Problem) *ovlv1.Problem {
	return &ovlv1.Problem{Severity: string(p.Severity), Subject: p.Subject, What: p.What, Hint: p.Hint}
}

// Problems returns ps as messages.
func Problems(ps []cluster.Problem) []*ovlv1.Problem {
	var out []*ovlv1.Problem
	for _, p := range ps {
		out = append(out, Problem(p))
	}
	return out
}

// ParseProblem returns the problem in p. A severity that this version does not
// know is taken as an error: better too loud.
func ParseProblem(p *ovlv1.Problem) cluster.Problem {
	s := cluster.SeverityError
	if p.GetSeverity() == string(cluster.SeverityWarning) {
		s = cluster.SeverityWarning
	}
	return cluster.Problem{Severity: s, Subject: p.GetSubject(), What: p.GetWhat(), Hint: p.GetHint()}
}
