package attach

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"google.golang.org/grpc/codes"

	"github.com/ovlnet/ovl/internal/cluster"
)

// PortWant asks for a port of the host, any free one of a range.
type PortWant struct {
	Proto         cluster.Proto
	HostIP        netip.Addr
	First, Last   uint16 // of the host
	ContainerPort uint16
}

// Publish gives an attachment other published ports, and returns when a pass has reported
// that they lead to it; if they cannot, it has those from before. None withdraws all.
func (a *Attachments) Publish(ctx context.Context, id string, wants []PortWant) (cluster.Attachment, error) {
	ctx, cancel := a.bound(ctx)
	defer cancel()
	verb := "publish ports of " + quote(short(id))
	old, unlock, err := a.hold(ctx, verb, id)
	if err != nil {
		return old, err
	}
	defer unlock()
	att, err := a.claimPorts(clone(old), wants, verb)
	if err != nil {
		return old, err
	}
	if slices.Equal(att.Ports, old.Ports) {
		return old, nil
	}
	err = a.cfg.Journal.Put(att)
	if err == nil {
		if err = a.settle(ctx, verb, att); err == nil {
			err = published(verb, att, a.cfg.Loop.Plan())
		}
	} else {
		err = because(verb, err, codes.Internal)
	}
	if err != nil {
		if rerr := a.rewrite(old); rerr != nil {
			a.cfg.Log.Error("ports that could not be published remain wanted", "container", old.Name, "id", id, "err", rerr)
		}
		return old, err
	}
	a.cfg.Log.Info("ports published", "container", att.Name, "id", att.ID, "ports", att.Ports)
	return att, nil
}

// claimPorts chooses ports and claims them in the place of those that att has.
func (a *Attachments) claimPorts(att cluster.Attachment, wants []PortWant, verb string) (cluster.Attachment, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.index.remove(att.ID)
	defer func() {
		a.index.remove(att.ID)
		a.index.add(att)
	}()
	var ports []cluster.Port
	for _, w := range wants {
		p, err := a.choosePort(w, ports, verb)
		if err != nil {
			return att, err
		}
		ports = append(ports, p)
	}
	slices.SortFunc(ports, cluster.ComparePort)
	ports = slices.Compact(ports)
	var bad violations
	if checkPorts(&bad, ports); len(bad) > 0 {
		return att, bad.err(verb)
	}
	att.Ports = ports
	return att, nil
}

// choosePort returns the first free port of those that are wanted, or why the last one is
// not. The caller holds mu.
func (a *Attachments) choosePort(w PortWant, beside []cluster.Port, verb string) (cluster.Port, error) {
	var why error
	for n := int(w.First); n <= int(w.Last); n++ {
		p := cluster.Port{Proto: w.Proto, HostIP: w.HostIP, HostPort: uint16(n), ContainerPort: w.ContainerPort}
		if err := p.Check(); err != nil {
			return p, violations{{"ports", err.Error()}}.err(verb)
		}
		if slices.ContainsFunc(beside, p.Clashes) && w.First != w.Last {
			why = refuse(codes.AlreadyExists, "%s: host port %s twice", verb, portText(p))
			continue
		}
		if what := a.index.portConflict([]cluster.Port{p}); what != "" {
			why = refuse(codes.AlreadyExists, "%s: %s", verb, what)
			continue
		}
		if err := a.admitPorts(Request{Ports: []cluster.Port{p}, doing: verb}); err != nil {
			why = err
			continue
		}
		return p, nil
	}
	if why == nil {
		why = refuse(codes.InvalidArgument, "%s: host ports %s: want the first before the last", verb, fmt.Sprintf("%d-%d", w.First, w.Last))
	}
	return cluster.Port{}, why
}
