package attach

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc/codes"

	"github.com/ovlnet/ovl/internal/cluster"
)

// Description is what an engine says of a container after it has started it.
type Description struct {
	Name, Hostname string
	Aliases        []string // on the one network of the endpoint
}

// Describe gives an attachment other names. It returns when they are answered for.
// Describing it so as it is does nothing. NOT_FOUND if there is none.
func (a *Attachments) Describe(ctx context.Context, id string, is Description) error {
	ctx, cancel := a.bound(ctx)
	defer cancel()
	verb := fmt.Sprintf("name %s %s", quote(short(id)), quote(is.Name))
	att, unlock, err := a.hold(ctx, verb, id)
	if err != nil {
		return err
	}
	defer unlock()
	named := clone(att)
	named.Name, named.Hostname = is.Name, is.Hostname
	if named.Hostname == "" {
		named.Hostname = is.Name
	}
	for i := range named.Interfaces {
		named.Interfaces[i].Aliases = slices.Clone(is.Aliases)
	}
	if named.Name == att.Name && named.Hostname == att.Hostname && slices.Equal(is.Aliases, att.Interfaces[0].Aliases) {
		return nil
	}
	if err := checkStored(named); err != nil {
		return refuse(codes.InvalidArgument, "%s: %v", verb, err)
	}
	if other, taken := a.namesake(named); taken {
		return refuse(codes.AlreadyExists, "%s: the name is in use on this host by container %s: rename one of them", verb, other)
	}
	if err := a.rewrite(named); err != nil {
		return because(verb, err, codes.Internal)
	}
	a.publish()
	if _, err := a.cfg.Loop.Settle(ctx, nil); err != nil {
		return because(verb, err, codes.Unavailable) // it is written down, and known in a moment
	}
	a.cfg.Log.Info("container named", "container", named.Name, "id", id, "aliases", is.Aliases)
	return nil
}

// namesake returns another container of this host that bears att's name.
func (a *Attachments) namesake(att cluster.Attachment) (who string, found bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.index.namesake(att)
}
