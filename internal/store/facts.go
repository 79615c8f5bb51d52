package store

import (
	"cmp"
	"slices"
	"strings"

	"github.com/ovlnet/ovl/internal/cluster"
)

// Snapshot returns the networks, hosts, leases and endpoints in the records, with each
// host's drain joined in. A record that cannot be decoded is left out and
// becomes a problem: one bad record must not blind a host to all others.
// Records of other kinds are passed over. A lease of an unknown network or host
// stays in: what to make of it is the plan's business.
func Snapshot(records []Record) (*cluster.Snapshot, []cluster.Problem) {
	facts := make([]*fact, 0, len(records))
	for _, r := range records {
		facts = append(facts, decodeFact(r))
	}
	var b snapshotBuilder
	b.add(facts)
	return b.build()
}

// fact is a record and what it says, decoded once.
type fact struct {
	Record
	kind     factKind
	network  cluster.Network
	host     cluster.Host
	lease    cluster.Lease
	after    int64             // of a lease: see [EncodeClaim]
	endpoint *cluster.Endpoint // of which there may be very many
	signer   *signer           // of a certificate
	problem  cluster.Problem
	verdict
}

type factKind uint8

const (
	factOther factKind = iota // of no concern to a snapshot
	factNetwork
	factHost
	factLease
	factDrain // host.ID alone
	factEndpoint
	factRelease     // of a lease, by the host that had it
	factCertificate // of no concern either: what others are judged by
	factProblem
)

// decodeFact returns what r says to a snapshot; it never fails.
func decodeFact(r Record) *fact {
	f := &fact{Record: r}
	var err error
	switch {
	case strings.HasPrefix(r.Key, NetworksPrefix):
		f.kind = factNetwork
		f.network, err = DecodeNetwork(r)
	case strings.HasPrefix(r.Key, HostsPrefix):
		f.kind = factHost
		f.host, err = DecodeHost(r)
	case strings.HasPrefix(r.Key, subnetsRoot):
		f.kind = factLease
		var rec leaseRecord
		f.lease, rec, err = decodeLease(r)
		if f.after = rec.After; rec.Released {
			f.kind = factRelease
		}
	case strings.HasPrefix(r.Key, DrainsPrefix):
		f.kind = factDrain
		f.host.ID, err = ParseDrainKey(r.Key)
	case strings.HasPrefix(r.Key, endpointsRoot):
		f.kind, f.endpoint = factEndpoint, new(cluster.Endpoint)
		*f.endpoint, err = DecodeEndpoint(r)
	case strings.HasPrefix(r.Key, CertificatesPrefix):
		f.kind = factCertificate
		f.signer, err = decodeSigner(r)
	}
	if err != nil {
		f.kind, f.problem = factProblem, badRecord(r.Key, err)
	}
	return f
}

// compareFacts orders facts as a snapshot does.
func compareFacts(a, b *fact) int {
	if a.kind == factLease && b.kind == factLease {
		return cmp.Or(cmp.Compare(a.lease.Network, b.lease.Network), cluster.ComparePrefix(a.lease.Prefix, b.lease.Prefix))
	}
	return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.Key, b.Key))
}

func badRecord(key string, err error) cluster.Problem {
	return cluster.Problem{
		Severity: cluster.SeverityWarning,
		Subject:  clipText("record " + key),
		What:     clipText("ignored: " + err.Error()),
		Hint:     "upgrade what reads it if a newer version wrote it; otherwise remove it from the store",
	}
}

// snapshotBuilder gathers facts in any order.
type snapshotBuilder struct {
	revision  int64
	networks  []cluster.Network
	hosts     []cluster.Host
	leases    []cluster.Lease
	endpoints []cluster.Endpoint
	draining  map[cluster.HostID]bool
	problems  []cluster.Problem
}

func (b *snapshotBuilder) add(facts []*fact) {
	// Growing by doubling would cost more than everything else here.
	var count [factProblem + 1]int
	for _, f := range facts {
		count[f.kind]++
	}
	b.networks = slices.Grow(b.networks, count[factNetwork])
	b.hosts = slices.Grow(b.hosts, count[factHost])
	b.leases = slices.Grow(b.leases, count[factLease])
	b.endpoints = slices.Grow(b.endpoints, count[factEndpoint])
	for _, f := range facts {
		b.addOne(f)
	}
}

func (b *snapshotBuilder) addOne(f *fact) {
	switch f.kind {
	case factNetwork:
		b.networks = append(b.networks, f.network)
	case factHost:
		b.hosts = append(b.hosts, f.host)
	case factLease:
		b.leases = append(b.leases, f.lease)
	case factDrain:
		if b.draining == nil {
			b.draining = map[cluster.HostID]bool{}
		}
		b.draining[f.host.ID] = true
	case factEndpoint:
		// Not for the revision: hosts report which one they have applied, and a
		// container that starts must not make all of them write.
		b.endpoints = append(b.endpoints, *f.endpoint)
		return
	case factProblem:
		b.problems = append(b.problems, f.problem)
	case factOther, factRelease, factCertificate:
		return
	}
	b.revision = max(b.revision, f.ModRev)
}

func (b *snapshotBuilder) build() (*cluster.Snapshot, []cluster.Problem) {
	for i := range b.hosts {
		b.hosts[i].Draining = b.draining[b.hosts[i].ID]
	}
	b.bound()
	slices.SortFunc(b.problems, func(x, y cluster.Problem) int {
		return cmp.Or(cmp.Compare(x.Subject, y.Subject), cmp.Compare(x.What, y.What))
	})
	return cluster.NewSnapshot(b.revision, b.networks, b.hosts, b.leases).WithEndpoints(b.endpoints), b.problems
}
