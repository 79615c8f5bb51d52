package main

import (
	"context"
	"slices"

	"google.golang.org/protobuf/proto"

	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// unpublished returns those of the ports that no other attachment of the container
// publishes. Podman names all of a container's ports again for each of its networks;
// they lead to the first of those that is ovl's.
func (a agent) unpublished(ctx context.Context, id, netns string, ports []*ovlv1.Port) ([]*ovlv1.Port, error) {
	if len(ports) == 0 {
		return nil, nil
	}
	all, err := a.ListAttachments(ctx, &ovlv1.ListAttachmentsRequest{})
	if err != nil {
		return nil, err
	}
	for _, att := range all.GetAttachments() {
		if att.GetId() == id || att.GetNetns() != netns {
			continue
		}
		ports = slices.DeleteFunc(ports, func(p *ovlv1.Port) bool {
			return slices.ContainsFunc(att.GetPorts(), func(q *ovlv1.Port) bool { return proto.Equal(p, q) })
		})
	}
	return ports, nil
}
