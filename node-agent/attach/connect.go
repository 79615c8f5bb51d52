package attach

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc/codes"

	"github.com/ovlnet/ovl/internal/cluster"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// ParseConnect returns the container and the interface that m asks for, or
// every violation there is.
func ParseConnect(m *ovlv1.ConnectRequest) (idOrName string, w Want, err error) {
	var bad violations
	if why := checkID(m.GetId()); why != "" {
		bad.add("id", "%s", why)
	}
	w = parseWant(&bad, "interface", m.GetInterface())
	w.check(&bad, "interface")
	if len(bad) > 0 {
		return "", Want{}, bad.err("connect")
	}
	return m.GetId(), w, nil
}

// Connect puts a container on one more network and returns when a pass has
// reported that its interface is in place. If it cannot be, nothing remains of
// it. No row of the other interfaces changes, but for the default route of a
// container that had none. Asking for the same again is answered with what there is,
// once it is in place; asking for something else on a network that the
// container is on is ALREADY_EXISTS.
func (a *Attachments) Connect(ctx context.Context, idOrName string, w Want) (cluster.Attachment, error) {
	ctx, cancel := a.bound(ctx)
	defer cancel()
	verb := fmt.Sprintf("connect %s to network %s", quote(idOrName), w.Network)
	old, unlock, err := a.hold(ctx, verb, idOrName)
	if err != nil {
		return old, err
	}
	defer unlock()
	if err := enginesOwn(verb, old); err != nil {
		return old, err
	}

	if at := slices.IndexFunc(old.Interfaces, func(i cluster.Interface) bool { return i.Network == w.Network }); at >= 0 {
		if i := old.Interfaces[at]; !w.asks(i) {
			return old, refuse(codes.AlreadyExists, "%s: it is on the network already, otherwise (%s): disconnect it first", verb, addresses(cluster.Attachment{Interfaces: []cluster.Interface{i}}))
		}
		return old, a.settle(ctx, verb, old)
	}
	r := more(old, w, verb)
	if len(old.Interfaces) >= maxInterfaces {
		return old, refuse(codes.FailedPrecondition, "%s: it has %d interfaces, the most there can be: disconnect another network first", verb, maxInterfaces)
	}
	networks, err := a.admit(ctx, r)
	if err != nil {
		return old, err
	}
	added, err := a.claim(ctx, r, networks)
	if err != nil {
		a.Reconsider()
		return old, err
	}
	att := clone(old)
	att.Interfaces = append(att.Interfaces, added.Interfaces...)
	if err := a.cfg.Journal.Put(att); err != nil {
		a.drop(att.ID, w.Network)
		a.Reconsider()
		return old, because(verb, err, codes.Internal)
	}
	if err := a.settle(ctx, verb, added); err != nil {
		_, _ = a.disconnect(ctx, att, w.Network) // what cannot be undone is logged there
		return old, err
	}
	a.publish()
	a.cfg.Log.Info("container connected", "container", att.Name, "id", att.ID, "network", w.Network, "addresses", addresses(added))
	return att, nil
}

// enginesOwn refuses to change the networks of a container that its engine connects: it
// would know nothing of it, and an endpoint of its is one interface.
func enginesOwn(verb string, att cluster.Attachment) error {
	if att.Stage == cluster.Placed {
		return nil
	}
	return refuse(codes.FailedPrecondition, "%s: a container engine connects it: use `docker network connect` and `docker network disconnect`", verb)
}

// hold returns the attachment of that ID or name, for its caller alone to
// change until unlock.
func (a *Attachments) hold(ctx context.Context, verb, idOrName string) (att cluster.Attachment, unlock func(), err error) {
	id := idOrName
	if found, err := a.one(verb, idOrName); err != nil {
		return att, nil, err
	} else if found != nil {
		id = found.ID
	}
	// Also if it is not known: it may be being attached just now.
	if unlock, err = a.ids.lock(ctx, id); err != nil {
		return att, nil, because(verb+": wait for another change of it", err, codes.Unavailable)
	}
	att, ok := a.cfg.Journal.Get(id)
	if !ok {
		unlock()
		return att, nil, refuse(codes.NotFound, "%s: there is no such container on this host: see `ovlctl ps`", verb)
	}
	return att, unlock, nil
}

// more returns the request for one more interface of an attachment. Without a
// name it gets the next free ethN.
func more(att cluster.Attachment, w Want, verb string) Request {
	wants := make([]Want, 0, len(att.Interfaces)+1)
	for _, i := range att.Interfaces {
		wants = append(wants, Want{Name: i.Name})
	}
	wants = append(wants, w)
	nameInterfaces(wants)
	return Request{
		ID: att.ID, Name: att.Name, NetNS: att.NetNS, Pin: att.Pin, Hostname: att.Hostname, Labels: att.Labels,
		Interfaces: wants[len(wants)-1:], doing: verb,
	}
}

func (a *Attachments) drop(id, network string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.index.drop(id, network)
}
