package embedstore

import (
	"errors"
	"fmt"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/store"
)

// rights is what one host may do in the store: read the cluster's facts, and
// write what is its own. etcd's own users cannot say that, since their ranges of
// keys begin at the front, and a subnet's key names the network before a value
// names the host. Whatever is not allowed here is refused.
type rights struct {
	host cluster.HostID
	facts
}

// facts is what the rights of a host depend on, as the store has it now.
type facts interface {
	// record returns a key's value and the revision of its last write, 0 = absent,
	// and the revision of the store.
	record(key string) (value []byte, modRev, now int64)
	// attached returns the keys that live on a lease; none on one that is gone.
	attached(lease int64) ([]string, error)
	// owner returns the host to which a lease was granted; empty if that is not known.
	owner(lease int64) cluster.HostID
	// learn notes whose a lease is by what lives on it.
	learn(lease int64, host cluster.HostID)
	// has returns what a host has in the store.
	has(host cluster.HostID) share
}

// errRights is every refusal.
var errRights = errors.New("a host may read the cluster's facts, and write its own records")

// check reports whether the host may make this request. A stream is checked
// message by message.
func (r rights) check(req any) error {
	switch q := req.(type) {
	case *pb.RangeRequest:
		return r.read(q.Key, q.RangeEnd)
	case *pb.TxnRequest:
		return r.txn(q)
	case *pb.WatchRequest:
		if c := q.GetCreateRequest(); c != nil {
			return r.read(c.Key, c.RangeEnd)
		}
		return nil // cancel and progress
	case *pb.LeaseGrantRequest:
		return r.grant(q)
	case *pb.LeaseKeepAliveRequest:
		return r.lease("renew", q.ID)
	case *pb.LeaseRevokeRequest:
		return r.lease("revoke", q.ID)
	}
	return fmt.Errorf("%T: %w", req, errRights) // a put or delete alone compares nothing
}

// read allows the ranges that lie within one readable prefix.
func (r rights) read(key, end []byte) error {
	for _, p := range store.Readable() {
		if within(string(key), string(end), p) {
			return nil
		}
	}
	return fmt.Errorf("read %.160q: %w", key, errRights)
}

// within reports whether a key, or the keys from key until before end, begin
// with prefix.
func within(key, end, prefix string) bool {
	return strings.HasPrefix(key, prefix) && (end == "" || end > key && end <= prefixEnd(prefix))
}

// prefixEnd is the first key after all that begin with prefix: etcd's way to
// write a prefix as a range.
func prefixEnd(prefix string) string {
	last := len(prefix) - 1 // a slash, or a letter
	return prefix[:last] + string(prefix[last]+1)
}

func (r rights) txn(q *pb.TxnRequest) error {
	for _, c := range q.Compare {
		if err := r.read(c.Key, c.RangeEnd); err != nil {
			return err
		}
	}
	if len(q.Failure) > 0 {
		return fmt.Errorf("a transaction with an else: %w", errRights)
	}
	s := r.has(r.host)
	for _, op := range q.Success {
		if err := r.op(op, q.Compare); err != nil {
			return err
		}
		if p := op.GetRequestPut(); p != nil {
			if err := r.fits(&s, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// fits allows what a host still has room for.
func (r rights) fits(s *share, q *pb.PutRequest) error {
	before := -1
	if value, modRev, _ := r.record(string(q.Key)); modRev > 0 {
		before = len(value)
	}
	return s.add(string(q.Key), len(q.Value), before)
}

func (r rights) op(op *pb.RequestOp, compared []*pb.Compare) error {
	if q := op.GetRequestRange(); q != nil {
		return r.read(q.Key, q.RangeEnd)
	}
	if q := op.GetRequestPut(); q != nil {
		return r.put(q, compared)
	}
	if q := op.GetRequestDeleteRange(); q != nil {
		return r.remove(q, compared)
	}
	return fmt.Errorf("an operation in a transaction: %w", errRights)
}

func (r rights) put(q *pb.PutRequest, compared []*pb.Compare) error {
	key := string(q.Key)
	if q.IgnoreValue || q.IgnoreLease || len(q.Value) > store.MaxValueLen {
		return fmt.Errorf("write %.160q: %w", key, errRights)
	}
	if q.Lease != 0 {
		// On another's lease it would keep that host from ending it.
		if err := r.lease("use", q.Lease); err != nil {
			return err
		}
	}
	if r.own(key) {
		return nil
	}
	// Of the subnets those that say that they are this host's, in the place of
	// none or of its own.
	l, err := store.DecodeLease(store.Record{Key: key, Value: q.Value})
	if err != nil || l.Host != r.host {
		return fmt.Errorf("write %.160q: %w", key, errRights)
	}
	return r.replace(key, compared)
}

func (r rights) remove(q *pb.DeleteRangeRequest, compared []*pb.Compare) error {
	key, end := string(q.Key), string(q.RangeEnd)
	if end == "" {
		if r.own(key) {
			return nil
		}
		return r.replace(key, compared)
	}
	if network, ok := r.endpoints(key); ok && within(key, end, store.HostEndpointsPrefix(network, r.host)) {
		return nil
	}
	if within(key, end, store.HostClonesPrefix(r.host)) {
		return nil
	}
	return fmt.Errorf("delete from %.160q: %w", key, errRights)
}

// replace allows a write to a subnet that nobody else holds: which the
// transaction must compare, or another host could take it in between.
func (r rights) replace(key string, compared []*pb.Compare) error {
	_, _, err := store.ParseSubnetKey(key)
	value, modRev, now := r.record(key)
	for _, c := range compared {
		mod, ok := c.GetTargetUnion().(*pb.Compare_ModRevision)
		if err != nil || !ok || string(c.Key) != key || len(c.RangeEnd) > 0 || c.Result != pb.Compare_EQUAL || c.Target != pb.Compare_MOD {
			continue
		}
		switch rev := mod.ModRevision; {
		case rev == modRev && rev != 0:
			if r.holds(key, value) == nil {
				return nil
			}
		case rev <= now:
			return nil // absent, or a revision that has passed: then it fails by itself
		}
	}
	return fmt.Errorf("write %.160q: %w", key, errRights)
}

// holds reports whether a record is a subnet of this host.
func (r rights) holds(key string, value []byte) error {
	l, err := store.DecodeLease(store.Record{Key: key, Value: value})
	if err == nil && l.Host != r.host {
		err = errRights
	}
	return err
}

// own reports whether a key names this host.
func (r rights) own(key string) bool {
	if key == store.HostKey(r.host) || key == store.SessionKey(r.host) {
		return true
	}
	if id, _, err := store.ParseCloneKey(key); err == nil {
		return id == r.host
	}
	_, id, _, err := store.ParseEndpointKey(key)
	return err == nil && id == r.host
}

// endpoints returns the network of a key below this host's endpoints.
func (r rights) endpoints(key string) (network string, ok bool) {
	rest, ok := strings.CutPrefix(key, store.EndpointsPrefix(""))
	network, _, found := strings.Cut(rest, "/")
	return network, ok && found
}

// grant allows leases that do not outlive their host for long, as many as a host needs.
func (r rights) grant(q *pb.LeaseGrantRequest) error {
	if q.ID != 0 {
		return fmt.Errorf("lease %d: %w", q.ID, errRights)
	}
	if q.TTL > int64(maxTTL/time.Second) {
		return fmt.Errorf("a lease of %d seconds: want at most %d: %w", q.TTL, int64(maxTTL/time.Second), errShare)
	}
	if n := r.has(r.host).leases; n >= maxLeases {
		return fmt.Errorf("this host has %d leases, the most that one host may have: wait until those end that its agent had when it ran before: %w", n, errShare)
	}
	return nil
}

// lease allows what is done with a lease that is the host's own. Where nobody knows whose
// it is, nothing that lives on it may be another host's: every record shows the lease
// that it lives on.
func (r rights) lease(doing string, id int64) error {
	switch r.owner(id) {
	case r.host:
		return nil
	case "":
	default:
		return fmt.Errorf("%s another host's lease: %w", doing, errRights)
	}
	keys, err := r.attached(id)
	if err != nil {
		return err
	}
	for _, key := range keys {
		value, _, _ := r.record(key)
		if !r.own(key) && r.holds(key, value) != nil {
			return fmt.Errorf("%s lease of %.160q: %w", doing, key, errRights)
		}
	}
	if len(keys) > 0 {
		r.learn(id, r.host)
	}
	return nil
}
