package main

import (
	"context"
	"errors"

	"github.com/containernetworking/cni/pkg/skel"

	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// del detaches a container. What is not there is done, and neither its
// namespace nor a valid network need exist any more.
func (p plugin) del(args *skel.CmdArgs) error {
	r, err := parseLax(args)
	if err != nil {
		return err
	}
	return p.ask(r, func(ctx context.Context, a agent) error {
		return a.detach(ctx, attachmentID(args.ContainerID, args.IfName))
	})
}

func (a agent) detach(ctx context.Context, id string) error {
	if _, err := a.Detach(ctx, &ovlv1.DetachRequest{Id: id}); err != nil && !notFound(err) {
		return a.translate(err)
	}
	return nil
}

// gc detaches what was added with this configuration and is not among the valid
// attachments. One that fails does not keep the others.
func (p plugin) gc(args *skel.CmdArgs) error {
	r, err := parse(args)
	if err != nil {
		return err
	}
	list, err := r.valid()
	if err != nil {
		return err
	}
	valid := map[string]bool{}
	for _, v := range list {
		valid[attachmentID(v.ContainerID, v.IfName)] = true
	}
	return p.ask(r, func(ctx context.Context, a agent) error {
		atts, err := a.ListAttachments(ctx, &ovlv1.ListAttachmentsRequest{})
		if err != nil {
			return a.translate(err)
		}
		var errs []error
		for _, att := range atts.GetAttachments() {
			if att.GetLabels()[labelNetwork] == r.Name && !valid[att.GetId()] {
				errs = append(errs, a.detach(ctx, att.GetId()))
			}
		}
		return errors.Join(errs...)
	})
}
