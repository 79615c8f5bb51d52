package attach

import (
	"fmt"
	"slices"

	"google.golang.org/grpc/codes"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/plan"
	"github.com/ovlnet/ovl/internal/wire"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// parsePorts returns the ports of a request, sorted and without repetition.
func parsePorts(bad *violations, ms []*ovlv1.Port) []cluster.Port {
	if len(ms) > cluster.MaxPorts { // before work is done for each
		bad.add("ports", "%d of them: want at most %d", len(ms), cluster.MaxPorts)
		return nil
	}
	var ports []cluster.Port
	for i, m := range ms {
		p, err := wire.ParsePort(m)
		if err != nil {
			bad.add(fmt.Sprintf("ports[%d]", i), "%v", err)
			continue
		}
		ports = append(ports, p)
	}
	slices.SortFunc(ports, cluster.ComparePort)
	return slices.Compact(ports)
}

// checkPorts returns what is wrong with ports, which are sorted, in themselves.
func checkPorts(bad *violations, ports []cluster.Port) {
	if len(ports) > cluster.MaxPorts {
		bad.add("ports", "%d of them: want at most %d", len(ports), cluster.MaxPorts)
		return
	}
	seen := map[portKey][]cluster.Port{}
	for i, p := range ports {
		if err := p.Check(); err != nil {
			bad.add(fmt.Sprintf("ports[%d]", i), "%v", err)
		}
		k := keyOf(p)
		for _, o := range seen[k] {
			if p.Clashes(o) {
				bad.add("ports", "%s and %s are one port of the host", o, p)
			}
		}
		seen[k] = append(seen[k], p)
	}
}

// portKey is what ports have in common that may clash.
type portKey struct {
	proto cluster.Proto
	port  uint16
}

func keyOf(p cluster.Port) portKey { return portKey{p.Proto, p.HostPort} }

// portClaim is a port and who has it.
type portClaim struct {
	port cluster.Port
	id   string
}

func (x *index) claimPorts(a cluster.Attachment) {
	for _, p := range a.Ports {
		x.ports[keyOf(p)] = append(x.ports[keyOf(p)], portClaim{p, a.ID})
	}
}

func (x *index) unclaimPorts(a cluster.Attachment) {
	for _, p := range a.Ports {
		k := keyOf(p)
		x.ports[k] = slices.DeleteFunc(x.ports[k], func(c portClaim) bool { return c.id == a.ID })
		if len(x.ports[k]) == 0 {
			delete(x.ports, k)
		}
	}
}

// portConflict tells who has a wanted port, or "".
func (x *index) portConflict(ports []cluster.Port) string {
	for _, p := range ports {
		for _, c := range x.ports[keyOf(p)] {
			if c.port.Clashes(p) {
				return fmt.Sprintf("host port %s is published by container %s (%s): use another, or remove that one", portText(p), x.who(c.id), c.port)
			}
		}
	}
	return ""
}

// portText is the host's side of a port.
func portText(p cluster.Port) string {
	if p.HostIP.IsValid() {
		return fmt.Sprintf("%d/%s of %s", p.HostPort, p.Proto, p.HostIP)
	}
	return fmt.Sprintf("%d/%s", p.HostPort, p.Proto)
}

// admitPorts refuses ports that the host itself needs.
func (a *Attachments) admitPorts(r Request) error {
	for _, p := range r.Ports {
		if p.Proto == cluster.UDP && p.HostPort == a.cfg.TunnelPort {
			return refuse(codes.AlreadyExists, "%s: host port %s carries the tunnel between the hosts: use another", r.verb(), portText(p))
		}
		if a.cfg.HostPort == nil {
			continue
		}
		if err := a.cfg.HostPort(p); err != nil {
			return because(r.verb(), err, codes.FailedPrecondition)
		}
	}
	return nil
}

// published returns an error if ports of an attachment lead nowhere.
func published(verb string, att cluster.Attachment, p plan.Result) error {
	if len(att.Ports) == 0 {
		return nil
	}
	for _, pr := range p.Problems {
		if pr.Subject == plan.PortsSubject(att) {
			return refuse(codes.FailedPrecondition, "%s: port %s: %s", verb, pr.What, pr.Hint)
		}
	}
	return nil
}
