package embedstore

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/store"
)

const (
	me    = cluster.HostID("0000000000000000000000000000000a")
	other = cluster.HostID("0000000000000000000000000000000b")
)

// held is a store in which two hosts hold a subnet each, and have nothing else unless
// it says so.
type held map[string][]byte

func (h held) owner(lease int64) cluster.HostID {
	return map[int64]cluster.HostID{4: me, 5: other}[lease]
}

func (h held) has(cluster.HostID) share { return share{} }

func (h held) learn(int64, cluster.HostID) {}

// full is a store in which each host has as much as it may.
type full struct {
	held
	share
}

func (f full) has(cluster.HostID) share { return f.share }

func (h held) record(key string) ([]byte, int64, int64) {
	if v, ok := h[key]; ok {
		return v, 50, 100
	}
	return nil, 0, 100
}

func (h held) attached(lease int64) ([]string, error) {
	return map[int64][]string{
		1: {store.HostKey(me), mine}, 2: {store.HostKey(other)}, 3: {store.HostKey(me), theirs},
	}[lease], nil
}

var (
	mine   = store.SubnetKey("blue", netip.MustParsePrefix("10.64.1.0/24"))
	theirs = store.SubnetKey("blue", netip.MustParsePrefix("10.64.2.0/24"))
	free   = store.SubnetKey("blue", netip.MustParsePrefix("10.64.3.0/24"))
)

func leaseOf(t testing.TB, key string, host cluster.HostID) []byte {
	t.Helper()
	network, prefix, err := store.ParseSubnetKey(key)
	if err != nil {
		t.Fatal(err)
	}
	v, err := store.EncodeLease(cluster.Lease{Network: network, Prefix: prefix, Host: host})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func put(key string, value []byte) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte(key), Value: value}}}
}

func del(key, end string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte(key), RangeEnd: []byte(end)}}}
}

func on(lease int64, op *pb.RequestOp) *pb.RequestOp {
	op.GetRequestPut().Lease = lease
	return op
}

func get(key, end string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte(key), RangeEnd: []byte(end)}}}
}

func at(key string, rev int64) *pb.Compare {
	return &pb.Compare{Key: []byte(key), Target: pb.Compare_MOD, TargetUnion: &pb.Compare_ModRevision{ModRevision: rev}}
}

func txn(op *pb.RequestOp, compare ...*pb.Compare) *pb.TxnRequest {
	return &pb.TxnRequest{Compare: compare, Success: []*pb.RequestOp{op}}
}

func end(prefix string) string { return clientv3.GetPrefixRangeEnd(prefix) }

func TestRights(t *testing.T) {
	facts := held{mine: leaseOf(t, mine, me), theirs: leaseOf(t, theirs, other)}
	my, their := leaseOf(t, free, me), leaseOf(t, free, other)
	older := at(mine, 50)
	older.Result = pb.Compare_GREATER
	for _, c := range []struct {
		name string
		req  any
		may  bool
	}{
		{"read hosts", txn(get(store.HostsPrefix, end(store.HostsPrefix))), true},
		{"read a network's subnets", txn(get(store.SubnetsPrefix("blue"), end(store.SubnetsPrefix("blue")))), true},
		{"read one", &pb.RangeRequest{Key: []byte(theirs)}, true},
		{"read all", txn(get(store.Root, end(store.Root))), false},
		{"read tokens", txn(get(store.Root+"tokens/", end(store.Root+"tokens/"))), false},
		{"read on", txn(get(store.HostsPrefix, "\x00")), false},
		{"read far", txn(get(store.HostsPrefix, store.Root+"z")), false},
		{"compare tokens", txn(get(mine, ""), at(store.Root+"tokens/x", 0)), false},
		{"watch hosts", &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte(store.HostsPrefix), RangeEnd: []byte(end(store.HostsPrefix))}}}, true},
		{"watch all", &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte("\x00"), RangeEnd: []byte("\x00")}}}, false},
		{"end a watch", &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{}}}, true},

		{"its host", txn(put(store.HostKey(me), nil)), true},
		{"its session", txn(put(store.SessionKey(me), nil)), true},
		{"its clone", txn(put(store.CloneKey(me, "x"), nil)), true},
		{"its endpoint", txn(put(store.EndpointKey("blue", me, "x"), nil)), true},
		{"its endpoint goes", txn(del(store.EndpointKey("blue", me, "x"), "")), true},
		{"its endpoints go", txn(del(store.HostEndpointsPrefix("blue", me), end(store.HostEndpointsPrefix("blue", me)))), true},
		{"its clones go", txn(del(store.HostClonesPrefix(me), end(store.HostClonesPrefix(me)))), true},
		{"another host", txn(put(store.HostKey(other), nil)), false},
		{"another session goes", txn(del(store.SessionKey(other), "")), false},
		{"another's endpoint", txn(put(store.EndpointKey("blue", other, "x"), nil)), false},
		{"all endpoints go", txn(del(store.EndpointsPrefix("blue"), end(store.EndpointsPrefix("blue")))), false},
		{"endpoints from its own on", txn(del(store.HostEndpointsPrefix("blue", me), end(store.EndpointsPrefix("blue")))), false},
		{"a network", txn(put(store.NetworkKey("blue"), nil)), false},
		{"a drain", txn(del(store.DrainKey(me), "")), false},
		{"a member", txn(put(store.Root+"members/host/"+string(me), nil)), false},
		{"something large", txn(put(store.HostKey(me), bytes.Repeat([]byte{'x'}, store.MaxValueLen+1))), false},
		{"without a transaction", &pb.PutRequest{Key: []byte(store.HostKey(me))}, false},
		{"with an else", &pb.TxnRequest{Failure: []*pb.RequestOp{put(store.HostKey(me), nil)}}, false},
		{"a transaction in it", txn(&pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{}}}), false},

		{"a free subnet", txn(put(free, my), at(free, 0)), true},
		{"its subnet again", txn(put(mine, leaseOf(t, mine, me)), at(mine, 50)), true},
		{"its subnet goes", txn(del(mine, ""), at(mine, 50)), true},
		{"one that is raced for", txn(put(theirs, leaseOf(t, theirs, me)), at(theirs, 0)), true}, // it is not absent: this fails
		{"one as it was", txn(put(theirs, leaseOf(t, theirs, me)), at(theirs, 49)), true},        // as it is no more: this fails
		{"another's", txn(put(theirs, leaseOf(t, theirs, me)), at(theirs, 50)), false},
		{"another's to come", txn(put(theirs, leaseOf(t, theirs, me)), at(theirs, 101)), false},
		{"another's goes", txn(del(theirs, ""), at(theirs, 50)), false},
		{"in another's name", txn(put(free, their), at(free, 0)), false},
		{"without comparing", txn(put(free, my)), false},
		{"comparing another", txn(put(free, my), at(mine, 50)), false},
		{"comparing otherwise", txn(put(mine, leaseOf(t, mine, me)), older), false},
		{"all subnets go", txn(del(store.SubnetsPrefix("blue"), end(store.SubnetsPrefix("blue"))), at(mine, 50)), false},
		{"no subnet", txn(put(free+"x", my), at(free+"x", 0)), false},

		{"a lease", &pb.LeaseGrantRequest{TTL: 1}, true},
		{"a lease of its choice", &pb.LeaseGrantRequest{TTL: 1, ID: 7}, false},
		{"a lease for a year", &pb.LeaseGrantRequest{TTL: 365 * 24 * 3600}, false},
		{"renew", &pb.LeaseKeepAliveRequest{ID: 1}, true},
		{"renew what it was granted", &pb.LeaseKeepAliveRequest{ID: 4}, true},
		{"renew one that is gone", &pb.LeaseKeepAliveRequest{ID: 9}, true},
		{"renew another's", &pb.LeaseKeepAliveRequest{ID: 2}, false},
		{"renew what another was granted", &pb.LeaseKeepAliveRequest{ID: 5}, false},
		{"renew a mixed lease", &pb.LeaseKeepAliveRequest{ID: 3}, false},
		{"its host on its lease", txn(on(4, put(store.HostKey(me), nil))), true},
		{"its host on another's lease", txn(on(2, put(store.HostKey(me), nil))), false},
		{"its host on what another was granted", txn(on(5, put(store.HostKey(me), nil))), false},
		{"end its lease", &pb.LeaseRevokeRequest{ID: 1}, true},
		{"end another's lease", &pb.LeaseRevokeRequest{ID: 2}, false},
		{"end a mixed lease", &pb.LeaseRevokeRequest{ID: 3}, false},
		{"end one that is gone", &pb.LeaseRevokeRequest{ID: 9}, true},
		{"list leases", &pb.LeaseLeasesRequest{}, false},
		{"compact", &pb.CompactionRequest{}, false},
		{"a copy of all", &pb.SnapshotRequest{}, false},
		{"a user", &pb.AuthUserAddRequest{}, false},
		{"a member of etcd", &pb.MemberAddRequest{}, false},
	} {
		if err := (rights{me, facts}).check(c.req); (err == nil) != c.may {
			t.Errorf("%s: %v, want it allowed: %v", c.name, err, c.may)
		}
	}
}

// TestShare: what a host has no room for is refused, with what to do; what replaces or
// removes something is not.
func TestShare(t *testing.T) {
	old := store.EndpointKey("blue", me, "old")
	facts := held{mine: leaseOf(t, mine, me), old: bytes.Repeat([]byte{'x'}, 100)}
	var many share
	many.records = [kinds]int{store.MaxHostEndpoints, store.MaxHostLeases, mostOf[clones].most}
	many.bytes, many.leases = maxBytes, maxLeases
	two := many
	two.records[endpoints]--
	two.bytes = 0
	for _, c := range []struct {
		name string
		has  share
		req  any
		want string // "" = it may
	}{
		{"an endpoint", many, txn(put(store.EndpointKey("blue", me, "new"), nil)), "16384 endpoints, the most that one host may have: run containers on other hosts"},
		{"a subnet", many, txn(put(free, leaseOf(t, free, me)), at(free, 0)), "16384 subnets and static addresses"},
		{"a clone", many, txn(put(store.CloneKey(me, "x"), nil)), "16 notes of cloned agents"},
		{"the same endpoint", many, txn(put(old, bytes.Repeat([]byte{'y'}, 100))), ""},
		{"a longer endpoint", many, txn(put(old, bytes.Repeat([]byte{'y'}, 101))), "fewer aliases and labels"},
		{"an endpoint goes", many, txn(del(old, "")), ""},
		{"its subnet again", many, txn(put(mine, leaseOf(t, mine, me)), at(mine, 50)), ""},
		{"the last", two, txn(put(store.EndpointKey("blue", me, "new"), nil)), ""},
		{"the last and one more", two, &pb.TxnRequest{Success: []*pb.RequestOp{put(store.EndpointKey("blue", me, "a"), nil), put(store.EndpointKey("blue", me, "b"), nil)}}, "16384 endpoints"},
		{"a lease", many, &pb.LeaseGrantRequest{TTL: 1}, "32 leases"},
		{"a lease that lives long", share{}, &pb.LeaseGrantRequest{TTL: 365 * 24 * 3600}, "want at most 2678400"},
	} {
		err := (rights{me, full{facts, c.has}}).check(c.req)
		if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, errShare) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// Whatever a host writes in one transaction, afterwards only records are others
// than before that are its own.
func FuzzRights(f *testing.F) {
	f.Add(mine, "", []byte("x"), mine, int64(50), false)
	f.Add(store.HostKey(me), "", []byte("{}"), "", int64(0), false)
	f.Add(store.HostEndpointsPrefix("blue", me), end(store.HostEndpointsPrefix("blue", me)), []byte{}, "", int64(0), true)
	facts := held{mine: leaseOf(f, mine, me), theirs: leaseOf(f, theirs, other), store.HostKey(other): []byte("{}"), store.NetworkKey("blue"): []byte("{}")}
	f.Fuzz(func(t *testing.T, key, last string, value []byte, compared string, rev int64, remove bool) {
		op := put(key, value)
		if remove {
			op = del(key, last)
		}
		if (rights{me, facts}).check(txn(op, at(compared, rev))) != nil {
			return
		}
		for k := range facts {
			_, modRev, _ := facts.record(k)
			if touched := k == key || remove && last != "" && k >= key && k < last; !touched || k == mine || compared == k && rev != modRev {
				continue
			}
			t.Errorf("%q is another's, and was written: %q to %q", k, key, last)
		}
		if !remove && !strings.Contains(key, string(me)) && !strings.Contains(string(value), string(me)) {
			t.Errorf("%q says nothing of its host", key)
		}
	})
}
