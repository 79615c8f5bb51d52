package main

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

func (c *client) listAttachments(ctx context.Context) ([]*ovlv1.Attachment, error) {
	r, err := c.attachments().ListAttachments(ctx, &ovlv1.ListAttachmentsRequest{})
	return r.GetAttachments(), err
}

// attached reports whether this host has an attachment of that ID or name.
func (c *client) attached(ctx context.Context, name string) (bool, error) {
	_, err := c.attachments().GetAttachment(ctx, &ovlv1.GetAttachmentRequest{Id: name})
	if status.Code(err) == codes.NotFound {
		return false, nil
	}
	return err == nil, err
}

// detach detaches; what is not attached is success.
func (c *client) detach(ctx context.Context, name string) error {
	_, err := c.attachments().Detach(ctx, &ovlv1.DetachRequest{Id: name})
	if status.Code(err) == codes.NotFound {
		return nil
	}
	return err
}
