package main

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// fakeController answers with what it holds, page by page, or with err.
type fakeController struct {
	mu        sync.Mutex
	err       error // of every call
	inUse     map[string]bool
	networks  []*ovlv1.Network
	hosts     []*ovlv1.Host
	subnets   []*ovlv1.Subnet
	endpoints []*ovlv1.Endpoint
	status    *ovlv1.ControllerStatus
	last      proto.Message // request
	pages     int           // asked for
}

// page gives one object at a time, so that every list takes several pages.
func page[T any](c *fakeController, all []T, token string) (items []T, next string) {
	c.pages++
	i := 0
	_, _ = fmt.Sscan(token, &i)
	if i < len(all) {
		items = all[i : i+1]
	}
	if i+1 < len(all) {
		next = fmt.Sprint(i + 1)
	}
	return items, next
}

func (c *fakeController) asked(req proto.Message) (func(), error) {
	c.mu.Lock()
	c.last = req
	return c.mu.Unlock, c.err
}

type networkFake struct {
	ovlv1.UnimplementedNetworkServiceServer
	c *fakeController
}

func (f networkFake) CreateNetwork(_ context.Context, r *ovlv1.CreateNetworkRequest) (*ovlv1.Network, error) {
	done, err := f.c.asked(r)
	defer done()
	return &ovlv1.Network{Name: r.GetName(), Vni: 100, Driver: r.GetDriver(), Subnets: r.GetSubnets(), Masquerade: true}, err
}

func (f networkFake) UpdateNetwork(_ context.Context, r *ovlv1.UpdateNetworkRequest) (*ovlv1.Network, error) {
	done, err := f.c.asked(r)
	defer done()
	return &ovlv1.Network{Name: r.GetName()}, err
}

func (f networkFake) GetNetwork(_ context.Context, r *ovlv1.GetNetworkRequest) (*ovlv1.Network, error) {
	done, err := f.c.asked(r)
	defer done()
	for _, n := range f.c.networks {
		if n.GetName() == r.GetName() {
			return n, err
		}
	}
	return nil, status.Errorf(codes.NotFound, "network %s does not exist", r.GetName())
}

func (f networkFake) ListNetworks(_ context.Context, r *ovlv1.ListNetworksRequest) (*ovlv1.ListNetworksResponse, error) {
	done, err := f.c.asked(r)
	defer done()
	items, next := page(f.c, f.c.networks, r.GetPageToken())
	return &ovlv1.ListNetworksResponse{Networks: items, NextPageToken: next}, err
}

func (f networkFake) DeleteNetwork(_ context.Context, r *ovlv1.DeleteNetworkRequest) (*ovlv1.DeleteNetworkResponse, error) {
	done, err := f.c.asked(r)
	defer done()
	if f.c.inUse[r.GetName()] && !r.GetForce() {
		return nil, status.Errorf(codes.FailedPrecondition, "network %s is in use", r.GetName())
	}
	return &ovlv1.DeleteNetworkResponse{}, err
}

type hostFake struct {
	ovlv1.UnimplementedHostServiceServer
	c *fakeController
}

func (f hostFake) ListHosts(_ context.Context, r *ovlv1.ListHostsRequest) (*ovlv1.ListHostsResponse, error) {
	done, err := f.c.asked(r)
	defer done()
	items, next := page(f.c, f.c.hosts, r.GetPageToken())
	return &ovlv1.ListHostsResponse{Hosts: items, NextPageToken: next}, err
}

func (f hostFake) GetHost(_ context.Context, r *ovlv1.GetHostRequest) (*ovlv1.Host, error) {
	done, err := f.c.asked(r)
	defer done()
	return f.c.hosts[0], err
}

func (f hostFake) DrainHost(_ context.Context, r *ovlv1.DrainHostRequest) (*ovlv1.Host, error) {
	done, err := f.c.asked(r)
	defer done()
	return &ovlv1.Host{Name: r.GetName(), Draining: !r.GetUndo()}, err
}

func (f hostFake) DeleteHost(_ context.Context, r *ovlv1.DeleteHostRequest) (*ovlv1.DeleteHostResponse, error) {
	done, err := f.c.asked(r)
	defer done()
	return &ovlv1.DeleteHostResponse{}, err
}

type subnetFake struct {
	ovlv1.UnimplementedSubnetServiceServer
	c *fakeController
}

func (f subnetFake) ListSubnets(_ context.Context, r *ovlv1.ListSubnetsRequest) (*ovlv1.ListSubnetsResponse, error) {
	done, err := f.c.asked(r)
	defer done()
	items, next := page(f.c, f.c.subnets, r.GetPageToken())
	return &ovlv1.ListSubnetsResponse{Subnets: items, NextPageToken: next}, err
}

type endpointFake struct {
	ovlv1.UnimplementedEndpointServiceServer
	c *fakeController
}

func (f endpointFake) ListEndpoints(_ context.Context, r *ovlv1.ListEndpointsRequest) (*ovlv1.ListEndpointsResponse, error) {
	done, err := f.c.asked(r)
	defer done()
	items, next := page(f.c, f.c.endpoints, r.GetPageToken())
	return &ovlv1.ListEndpointsResponse{Endpoints: items, NextPageToken: next}, err
}

func (f endpointFake) GetEndpoint(_ context.Context, r *ovlv1.GetEndpointRequest) (*ovlv1.GetEndpointResponse, error) {
	done, err := f.c.asked(r)
	defer done()
	return &ovlv1.GetEndpointResponse{Endpoints: f.c.endpoints}, err
}

type statusFake struct {
	ovlv1.UnimplementedControllerServiceServer
	c *fakeController
}

func (f statusFake) GetStatus(_ context.Context, r *ovlv1.GetStatusRequest) (*ovlv1.ControllerStatus, error) {
	done, err := f.c.asked(r)
	defer done()
	return f.c.status, err
}

// fakeAgent keeps attachments as an agent does and answers the rest as told.
type fakeAgent struct {
	mu        sync.Mutex
	refuse    error // of every Attach
	attached  map[string]*ovlv1.Attachment
	request   *ovlv1.AttachRequest // the last one
	domain    string               // of each network
	connect   *ovlv1.ConnectRequest
	status    *ovlv1.AgentStatus
	plan      *ovlv1.GetPlanResponse
	diff      *ovlv1.GetDiffResponse
	whois     *ovlv1.WhoisResponse
	detaching int
}

func newFakeAgent() *fakeAgent { return &fakeAgent{attached: map[string]*ovlv1.Attachment{}} }

type attachmentFake struct {
	ovlv1.UnimplementedAttachmentServiceServer
	a *fakeAgent
}

func (f attachmentFake) Attach(_ context.Context, r *ovlv1.AttachRequest) (*ovlv1.Attachment, error) {
	f.a.mu.Lock()
	defer f.a.mu.Unlock()
	f.a.request = r
	if f.a.refuse != nil {
		return nil, f.a.refuse
	}
	a := &ovlv1.Attachment{
		Id: r.GetId(), Name: r.GetName(), Netns: r.GetNetns(), Hostname: r.GetHostname(),
		Labels: r.GetLabels(), Created: timestamppb.New(now),
	}
	for i, n := range r.GetInterfaces() {
		a.Interfaces = append(a.Interfaces, &ovlv1.Interface{
			Network: n.GetNetwork(), Name: fmt.Sprintf("eth%d", i),
			Addresses: []string{fmt.Sprintf("10.64.%d.2/24", i)}, Gateways: []string{fmt.Sprintf("10.64.%d.1", i)}, Domain: f.a.domain,
		})
	}
	f.a.attached[r.GetId()] = a
	return a, nil
}

func (f attachmentFake) Detach(_ context.Context, r *ovlv1.DetachRequest) (*ovlv1.DetachResponse, error) {
	f.a.mu.Lock()
	defer f.a.mu.Unlock()
	f.a.detaching++
	if f.a.attached[r.GetId()] == nil {
		return nil, status.Error(codes.NotFound, "no such attachment")
	}
	delete(f.a.attached, r.GetId())
	return &ovlv1.DetachResponse{}, nil
}

func (f attachmentFake) Connect(_ context.Context, r *ovlv1.ConnectRequest) (*ovlv1.Attachment, error) {
	f.a.mu.Lock()
	defer f.a.mu.Unlock()
	f.a.connect = r
	if f.a.refuse != nil {
		return nil, f.a.refuse
	}
	a := f.a.attached[r.GetId()]
	if a == nil {
		return nil, status.Error(codes.NotFound, "no such attachment")
	}
	n := len(a.GetInterfaces())
	a.Interfaces = append(a.Interfaces, &ovlv1.Interface{
		Network: r.GetInterface().GetNetwork(), Name: fmt.Sprintf("eth%d", n),
		Addresses: []string{fmt.Sprintf("10.64.%d.2/24", n)}, Gateways: []string{fmt.Sprintf("10.64.%d.1", n)},
	})
	return a, nil
}

func (f attachmentFake) Disconnect(_ context.Context, r *ovlv1.DisconnectRequest) (*ovlv1.Attachment, error) {
	f.a.mu.Lock()
	defer f.a.mu.Unlock()
	a := f.a.attached[r.GetId()]
	if a == nil {
		return nil, status.Error(codes.NotFound, "no such attachment")
	}
	before := len(a.GetInterfaces())
	a.Interfaces = slices.DeleteFunc(a.Interfaces, func(i *ovlv1.Interface) bool { return i.GetNetwork() == r.GetNetwork() })
	if len(a.GetInterfaces()) == before {
		return nil, status.Error(codes.NotFound, "not on this network")
	}
	return a, nil
}

func (f attachmentFake) GetAttachment(_ context.Context, r *ovlv1.GetAttachmentRequest) (*ovlv1.Attachment, error) {
	f.a.mu.Lock()
	defer f.a.mu.Unlock()
	if a := f.a.attached[r.GetId()]; a != nil {
		return a, nil
	}
	return nil, status.Error(codes.NotFound, "no such attachment")
}

func (f attachmentFake) ListAttachments(context.Context, *ovlv1.ListAttachmentsRequest) (*ovlv1.ListAttachmentsResponse, error) {
	f.a.mu.Lock()
	defer f.a.mu.Unlock()
	r := &ovlv1.ListAttachmentsResponse{}
	for _, a := range f.a.attached {
		r.Attachments = append(r.Attachments, a)
	}
	return r, nil
}

type agentFake struct {
	ovlv1.UnimplementedAgentServiceServer
	a *fakeAgent
}

func (f agentFake) GetStatus(context.Context, *ovlv1.GetAgentStatusRequest) (*ovlv1.AgentStatus, error) {
	return f.a.status, nil
}

func (f agentFake) GetPlan(context.Context, *ovlv1.GetPlanRequest) (*ovlv1.GetPlanResponse, error) {
	return f.a.plan, nil
}

func (f agentFake) GetDiff(context.Context, *ovlv1.GetDiffRequest) (*ovlv1.GetDiffResponse, error) {
	return f.a.diff, nil
}

func (f agentFake) Whois(context.Context, *ovlv1.WhoisRequest) (*ovlv1.WhoisResponse, error) {
	return f.a.whois, nil
}
