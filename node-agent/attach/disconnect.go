package attach

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc/codes"

	"github.com/ovlnet/ovl/internal/cluster"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// ParseDisconnect returns the container and the network in m, or every
// violation there is.
func ParseDisconnect(m *ovlv1.DisconnectRequest) (idOrName, network string, err error) {
	var bad violations
	if why := checkID(m.GetId()); why != "" {
		bad.add("id", "%s", why)
	}
	if err := cluster.CheckName(m.GetNetwork()); err != nil {
		bad.add("network", "%v", err)
	}
	if len(bad) > 0 {
		return "", "", bad.err("disconnect")
	}
	return m.GetId(), m.GetNetwork(), nil
}

// Disconnect takes a container off a network and returns when a pass has taken
// the interface away. Its other interfaces keep their rows; a default route
// that went through this network moves to the next one with a way out. The
// last network may be disconnected too: the container stays, without any.
// NOT_FOUND if there is no such container, or it is not on the network. What
// has begun is finished even if the caller goes away.
func (a *Attachments) Disconnect(ctx context.Context, idOrName, network string) (cluster.Attachment, error) {
	ctx, cancel := a.bound(ctx)
	defer cancel()
	verb := fmt.Sprintf("disconnect %s from network %s", quote(idOrName), network)
	att, unlock, err := a.hold(ctx, verb, idOrName)
	if err != nil {
		return att, err
	}
	defer unlock()
	if err := enginesOwn(verb, att); err != nil {
		return att, err
	}

	if !slices.ContainsFunc(att.Interfaces, func(i cluster.Interface) bool { return i.Network == network }) {
		return att, refuse(codes.NotFound, "%s: it is not on this network: see `ovlctl ps`", verb)
	}
	rest, err := a.disconnect(ctx, att, network)
	if err != nil {
		return att, because(verb, err, codes.Internal)
	}
	a.cfg.Log.Info("container disconnected", "container", att.Name, "id", att.ID, "network", network)
	return rest, nil
}

// disconnect takes the interface on a network out of the journal and waits
// until its rows are gone, also if its caller has gone; only then is what it
// had free for others. The caller holds the attachment's ID.
func (a *Attachments) disconnect(ctx context.Context, att cluster.Attachment, network string) (cluster.Attachment, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUp)
	defer cancel()
	keys := statics(slices.DeleteFunc(slices.Clone(att.Interfaces), func(i cluster.Interface) bool { return i.Network != network }))
	unlock, err := a.holdStatics(ctx, keys)
	if err != nil {
		return att, err
	}
	defer unlock()
	rest := clone(att)
	rest.Interfaces = slices.DeleteFunc(rest.Interfaces, func(i cluster.Interface) bool { return i.Network == network })
	if err := a.cfg.Journal.Put(rest); err != nil {
		a.cfg.Log.Error("a container could not be taken off a network: it remains on it", "container", att.Name, "id", att.ID, "network", network, "err", err)
		return att, err
	}
	a.publish()
	rep, err := a.cfg.Loop.Settle(ctx, scopeOf(att))
	if err != nil || rep.Err != nil {
		// It is off the journal: the loop takes the rows away when it can.
		a.cfg.Log.Warn("the interface of a disconnected container will go later", "container", att.Name, "id", att.ID, "network", network, "settle", err, "observe", rep.Err)
	}
	a.drop(att.ID, network)
	a.yield(ctx, keys, rep, err)
	return rest, nil
}
