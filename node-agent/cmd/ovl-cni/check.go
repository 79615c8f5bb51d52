package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// errNotInPlace is the code for a container whose network is not as it should
// be. Codes from 100 on are the plugin's.
const errNotInPlace uint = 100

// check succeeds if the container is attached as the runtime believes, and all
// of its rows are in the kernel.
func (p plugin) check(args *skel.CmdArgs) error {
	r, err := parseWhole(args)
	if err != nil {
		return err
	}
	if r.PrevResult == nil {
		return invalid("prevResult is missing: CHECK compares with what ADD returned")
	}
	prev, err := types100.NewResultFromResult(r.PrevResult)
	if err != nil {
		return types.NewError(types.ErrDecodingFailure, "read prevResult: "+err.Error(), "")
	}
	return p.ask(r, func(ctx context.Context, a agent) error {
		att, err := a.GetAttachment(ctx, &ovlv1.GetAttachmentRequest{Id: attachmentID(args.ContainerID, args.IfName)})
		if notFound(err) {
			return types.NewError(types.ErrUnknownContainer, fmt.Sprintf("container %s is not attached with interface %s on this host", args.ContainerID, args.IfName), "")
		}
		if err != nil {
			return a.translate(err)
		}
		if len(att.GetInterfaces()) != 1 {
			return types.NewError(types.ErrInternal, fmt.Sprintf("the agent names %d interfaces of the attachment, want 1", len(att.GetInterfaces())), "")
		}
		if what := differs(r, att, prev); what != "" {
			return types.NewError(errNotInPlace, what, "")
		}
		diff, err := a.GetDiff(ctx, &ovlv1.GetDiffRequest{Attachment: att.GetId()})
		if err != nil {
			return a.translate(err)
		}
		return inPlace(diff.GetOps())
	})
}

// differs tells in what the attachment is not what the runtime believes.
func differs(r *request, att *ovlv1.Attachment, prev *types100.Result) string {
	i := att.GetInterfaces()[0]
	if i.GetNetwork() != r.Network {
		return fmt.Sprintf("the container is on network %s, not %s", i.GetNetwork(), r.Network)
	}
	if att.GetNetns() != filepath.Clean(r.args.Netns) {
		return fmt.Sprintf("the container was attached in %s, not %s", att.GetNetns(), r.args.Netns)
	}
	var known []string
	for _, ip := range prev.IPs {
		known = append(known, ip.Address.String())
	}
	for _, a := range i.GetAddresses() {
		if !slices.Contains(known, a) {
			return fmt.Sprintf("the container's address %s is not in prevResult (%s)", a, strings.Join(known, ", "))
		}
	}
	return ""
}

// maxTold bounds how many rows an error names.
const maxTold = 32

// inPlace returns an error naming the rows that a pass would change now.
func inPlace(ops []*ovlv1.Op) error {
	if len(ops) == 0 {
		return nil
	}
	var rows []string
	for _, op := range ops[:min(len(ops), maxTold)] {
		rows = append(rows, op.GetVerb()+" "+op.GetRow().GetKey())
	}
	return types.NewError(errNotInPlace, fmt.Sprintf("%d rows are not in place; the agent would %s", len(ops), strings.Join(rows, ", ")),
		"the agent is repairing them: see `ovlctl agent diff` on the host")
}
