package embedstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/lease"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/ovlnet/ovl/controller/limit"
	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/identity"
)

// door asks, on each call, whether who is at the other end may still come in, and
// may do this. TLS asks once, when a connection is made, and those of agents last
// for weeks.
type door struct {
	accept  func(context.Context, tls.ConnectionState) (Visitor, error)
	refused func(Refusal) // may be nil
	server  atomic.Pointer[etcdserver.EtcdServer]
	ledger  *ledger
	flow    *limit.Limit[cluster.HostID] // of what hosts write, in KiB
}

func newDoor(accept func(context.Context, tls.ConnectionState) (Visitor, error), refused func(Refusal)) *door {
	return &door{accept: accept, refused: refused, ledger: newLedger(), flow: limit.New[cluster.HostID](burstKiB, refillEach, time.Now)}
}

// open lets hosts in: until there is a server that has read what they have written,
// nobody knows what they may do.
func (d *door) open(ctx context.Context, s *etcdserver.EtcdServer) error {
	if d.accept != nil {
		if err := d.ledger.open(ctx, s); err != nil {
			return err
		}
	}
	d.server.Store(s)
	return nil
}

// refuse tells of a refusal, and returns it as the answer.
func (d *door) refuse(ctx context.Context, method string, host cluster.HostID, err error) error {
	code := codes.PermissionDenied
	if errors.Is(err, errShare) {
		code = codes.ResourceExhausted
	}
	if d.refused != nil {
		r := Refusal{Host: host, Method: method, Code: code, Err: err}
		if who, ok := errors.AsType[*identity.RefusalError](err); ok && host == "" {
			r.Host, _ = who.Who.HostID()
		}
		if p, ok := peer.FromContext(ctx); ok {
			if tcp, ok := p.Addr.(*net.TCPAddr); ok {
				at := tcp.AddrPort()
				r.From = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
			}
		}
		d.refused(r)
	}
	return status.Errorf(code, "refused: %v", err)
}

func (d *door) admit(ctx context.Context, method string) (Visitor, error) {
	if d.accept == nil {
		return Visitor{}, nil
	}
	var state tls.ConnectionState
	if p, ok := peer.FromContext(ctx); ok {
		if info, ok := p.AuthInfo.(credentials.TLSInfo); ok {
			state = info.State
		}
	}
	v, err := d.accept(ctx, state)
	if err != nil {
		return v, d.refuse(ctx, method, v.Host, err)
	}
	return v, nil
}

// check reports whether the visitor may make that request.
func (d *door) check(ctx context.Context, method string, v Visitor, req any) error {
	if v.Host == "" {
		return nil
	}
	s := d.server.Load()
	if s == nil {
		return status.Error(codes.Unavailable, "the store is starting")
	}
	if _, ok := req.(*pb.LeaseGrantRequest); ok && d.ledger.of(v.Host).leases >= maxLeases {
		d.ledger.expire(v.Host, func(id int64) bool { return lives(ctx, s, id) })
	}
	err := (rights{v.Host, running{ctx, s, d.ledger}}).check(req)
	if err == nil {
		err = d.spend(v.Host, req)
	}
	if err != nil {
		return d.refuse(ctx, method, v.Host, err)
	}
	return nil
}

// spend holds back who writes more than any honest host.
func (d *door) spend(host cluster.HostID, req any) error {
	q, ok := req.(*pb.TxnRequest)
	if !ok {
		return nil
	}
	size := 0
	for _, op := range q.Success {
		p := op.GetRequestPut()
		size += len(p.GetKey()) + len(p.GetValue())
	}
	if size > 0 && !d.flow.TakeN(host, 1+size>>10) {
		return fmt.Errorf("%w: this host has written more than %d MiB in a minute: it goes on by itself", errShare, burstKiB>>10)
	}
	return nil
}

// note remembers whose a lease is, and at once what was written: the ledger hears of
// that a moment later.
func (d *door) note(v Visitor, req, answer any) {
	switch a := answer.(type) {
	case *pb.TxnResponse:
		if q, ok := req.(*pb.TxnRequest); ok && a.Succeeded && v.Host != "" {
			d.ledger.did(q)
		}
	case *pb.LeaseGrantResponse:
		d.ledger.granted(a.ID, v.Host)
	case *pb.LeaseRevokeResponse:
		if q, ok := req.(*pb.LeaseRevokeRequest); ok {
			d.ledger.granted(q.ID, "")
		}
	}
}

func (d *door) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	v, err := d.admit(ctx, info.FullMethod)
	if err == nil {
		err = d.check(ctx, info.FullMethod, v, req)
	}
	if err != nil {
		return nil, err
	}
	answer, err := next(ctx, req)
	if err == nil {
		d.note(v, req, answer)
	}
	return answer, err
}

func (d *door) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	v, err := d.admit(stream.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	if v.Host == "" && v.Gone == nil {
		return next(srv, stream)
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	go func() {
		select {
		case <-v.Gone:
			cancel()
		case <-ctx.Done():
		}
	}()
	err = next(srv, checked{endable{stream, ctx}, d, v, info.FullMethod})
	select {
	case <-v.Gone:
		return status.Error(codes.PermissionDenied, "refused: removed from the cluster")
	default:
		return err
	}
}

// checked is a stream of which each request is checked.
type checked struct {
	endable
	door    *door
	visitor Visitor
	method  string
}

// RecvMsg implements [grpc.ServerStream].
func (c checked) RecvMsg(m any) error {
	if err := c.endable.RecvMsg(m); err != nil {
		return err
	}
	return c.door.check(c.ctx, c.method, c.visitor, m)
}

// running is the facts in a running etcd, which is alone, so that what it has
// applied is all there is.
type running struct {
	ctx    context.Context //nolint:containedctx // lives for one request
	server *etcdserver.EtcdServer
	ledger *ledger
}

func (r running) owner(id int64) cluster.HostID { return r.ledger.owner(id) }

func (r running) learn(id int64, host cluster.HostID) { r.ledger.granted(id, host) }

func (r running) has(host cluster.HostID) share { return r.ledger.of(host) }

func (r running) record(key string) (value []byte, modRev, now int64) {
	got, err := r.server.KV().Range(r.ctx, []byte(key), nil, mvcc.RangeOptions{})
	if err != nil || got == nil {
		return nil, -1, -1 // which no transaction compares with
	}
	if len(got.KVs) == 0 {
		return nil, 0, got.Rev
	}
	return got.KVs[0].Value, got.KVs[0].ModRevision, got.Rev
}

func (r running) attached(id int64) ([]string, error) {
	ttl, err := r.server.LeaseTimeToLive(r.ctx, &pb.LeaseTimeToLiveRequest{ID: id, Keys: true})
	if errors.Is(err, lease.ErrLeaseNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up lease: %w", err)
	}
	var keys []string
	for _, k := range ttl.Keys {
		keys = append(keys, string(k))
	}
	return keys, nil
}
