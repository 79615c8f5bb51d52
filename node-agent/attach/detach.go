package attach

import (
	"context"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
)

// Detach removes an attachment by ID or name and returns when a pass has taken
// its rows away, whether or not its namespace still exists. NOT_FOUND if there
// is none. What has begun is finished even if the caller goes away.
func (a *Attachments) Detach(ctx context.Context, idOrName string) error {
	ctx, cancel := a.bound(ctx)
	defer cancel()
	id := idOrName
	if found, err := a.one("detach", idOrName); err != nil {
		return err
	} else if found != nil {
		id = found.ID
	}
	// Also if it is not known: it may be being attached just now.
	unlock, err := a.ids.lock(ctx, id)
	if err != nil {
		return because("detach "+quote(idOrName)+": wait for another change of it", err, codes.Unavailable)
	}
	defer unlock()

	att, ok := a.cfg.Journal.Get(id)
	if !ok {
		if !a.cfg.Journal.Broken(id) {
			return refuse(codes.NotFound, "detach %s: there is no such container on this host: see `ovlctl ps`", quote(idOrName))
		}
		att = cluster.Attachment{ID: id}
	}
	ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), cleanUp)
	defer cancel()
	if err := a.remove(ctx, att); err != nil {
		return because("detach "+quote(idOrName), err, codes.Internal)
	}
	a.cfg.Log.Info("container detached", "container", att.Name, "id", att.ID)
	return nil
}

// one returns the attachment of that ID or name, nil if there is none, or an
// error if the name is that of several.
func (a *Attachments) one(verb, idOrName string) (*cluster.Attachment, error) {
	found := a.cfg.Journal.Find(idOrName)
	switch len(found) {
	case 0:
		return nil, nil //nolint:nilnil // none is no error here
	case 1:
		return &found[0], nil
	}
	var ids []string
	for _, att := range found {
		ids = append(ids, att.ID)
	}
	return nil, refuse(codes.FailedPrecondition, "%s %s: the container has %d attachments: give the ID of one (%s)", verb, quote(idOrName), len(ids), strings.Join(ids, ", "))
}

// remove takes an attachment out of the journal and waits until its rows are
// gone; only then is what it had free for others. The caller holds its ID.
func (a *Attachments) remove(ctx context.Context, att cluster.Attachment) error {
	keys := statics(att.Interfaces)
	unlock, err := a.holdStatics(ctx, keys)
	if err != nil {
		return err
	}
	defer unlock()
	if err := a.cfg.Journal.Delete(att.ID); err != nil {
		return err
	}
	a.publish()
	scope := scopeOf(att)
	unknown := att.NetNS == "" && att.Stage == cluster.Placed // a record that could not be read
	if unknown {
		scope = dataplane.FullScope()
	}
	rep, err := a.cfg.Loop.Settle(ctx, scope)
	if err != nil || rep.Err != nil {
		// It is off the journal: the loop takes the rows away when it can.
		a.cfg.Log.Warn("the interfaces of a removed container will go later", "container", att.Name, "id", att.ID, "settle", err, "observe", rep.Err)
	}
	a.mu.Lock()
	a.index.remove(att.ID)
	a.mu.Unlock()
	a.yield(ctx, keys, rep, err)
	a.Tidy()
	if unknown {
		a.Reconsider() // it is not known what it was of
	}
	return nil
}

// publish makes the endpoints of all attachments known to the cluster. Of those who
// wait for their turn the first one takes the others along: a hundred attachments
// that end together publish a list of thousands once or twice.
func (a *Attachments) publish() {
	a.unpublished.Store(true)
	a.publishing.Lock()
	defer a.publishing.Unlock()
	if !a.unpublished.Swap(false) {
		return
	}
	a.cfg.Subnets.SetEndpoints(endpoints(a.cfg.Self, a.cfg.Journal.List()))
}

// endpoints returns what the cluster sees of attachments: one for each
// interface.
func endpoints(self cluster.HostID, atts []cluster.Attachment) []cluster.Endpoint {
	out := make([]cluster.Endpoint, 0, len(atts))
	for _, att := range atts {
		for _, i := range att.Interfaces {
			e := cluster.Endpoint{
				Network: i.Network, Host: self, ID: att.ID, Name: att.Name,
				Aliases: i.Aliases, MAC: i.MAC, Labels: att.Labels,
			}
			for _, p := range i.Addrs {
				e.Addrs = append(e.Addrs, p.Addr())
			}
			out = append(out, e)
		}
	}
	return out
}
