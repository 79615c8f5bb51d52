package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/identity"
	"github.com/ovlnet/ovl/internal/settings"
	"github.com/ovlnet/ovl/internal/store"
	"github.com/ovlnet/ovl/node-agent/member"
)

// membership is what the agent knows of its cluster when it starts.
type membership struct {
	name   string
	etcd   []string
	tls    *tls.Config    // nil: plain text
	member *member.Member // nil: of no cluster with members
}

// identityDir is where a host's keys are.
func (o *options) identityDir() string { return filepath.Join(o.stateDir, "identity") }

// membership returns what this host learned when it joined, but for what the
// operator says.
func (o *options) membership(id cluster.HostID) (membership, error) {
	if o.plaintext {
		name, err := o.host()
		return membership{name: name, etcd: o.etcd}, err
	}
	m, err := member.Open(o.identityDir(), id, time.Now)
	if err != nil {
		return membership{}, err
	}
	if o.name != "" && o.name != m.Cluster.Name {
		return membership{}, settings.Usage(fmt.Errorf("--name %s: this host joined as %s: leave --name out, or join again under that name", o.name, m.Cluster.Name))
	}
	in := membership{name: m.Cluster.Name, etcd: m.Cluster.Etcd, member: m}
	if len(o.controllers) > 0 {
		m.Cluster.Controllers = o.controllers
	}
	if len(o.etcd) > 0 {
		in.etcd = o.etcd
	}
	in.tls = m.Client()
	switch {
	case o.etcdCA == "" && m.Cluster.EtcdCA != "":
		var roots []*x509.Certificate
		if roots, err = identity.ParseCerts([]byte(m.Cluster.EtcdCA)); err == nil {
			in.tls, err = identity.ForeignTo(roots, o.etcdCert, o.etcdKey, m.Credential)
		}
	case o.etcdCA != "" || o.etcdCert != "":
		in.tls, err = identity.Foreign(o.etcdCA, o.etcdCert, o.etcdKey, m.Credential)
	}
	return in, err
}

// noting is the store, with its refusals noted.
func (in membership) noting(kv store.KV) store.KV {
	if in.member == nil {
		return kv
	}
	return in.member.Noting(kv)
}

// roots returns those whom the cluster trusts; nil where nobody signs anything.
func (in membership) roots() func() []*x509.Certificate {
	if in.member == nil {
		return nil
	}
	return in.member.Credential.Roots
}

// seal returns what signs the records of this host; nil where nobody does.
func (in membership) seal() func(string, store.LeaseID, []byte) ([]byte, error) {
	if in.member == nil {
		return nil
	}
	return func(key string, lease store.LeaseID, value []byte) ([]byte, error) {
		return identity.Seal(in.member.Credential.Pair().Key, identity.Place{Key: key, Lease: int64(lease)}, value)
	}
}

// problems returns what is wrong with the membership.
func (in membership) problems() []cluster.Problem {
	if in.member == nil {
		return nil
	}
	return in.member.Problems()
}

// follow hears which CAs are in force.
func (in membership) follow(ctx context.Context, kv store.KV, log *slog.Logger) error {
	if in.member == nil {
		return nil
	}
	return in.member.Follow(ctx, kv, log)
}

// rekeyed tells whenever this host has another key, if it has one.
func (in membership) rekeyed(ctx context.Context, tell func()) error {
	if in.member == nil {
		return nil
	}
	return in.member.Rekeyed(ctx, tell)
}

// renew keeps the certificate fresh, if there is one.
func (in membership) renew(ctx context.Context, log *slog.Logger) error {
	if in.member == nil {
		return nil
	}
	return in.member.Renew(ctx, log)
}

// errNoMember is why networks of a container engine stay on its host.
var errNoMember = errors.New("this agent is no member of a cluster (--insecure-plaintext), so no controller listens to it: use ovlctl network")

// CreateNetwork implements [mirror.Cluster].
func (in membership) CreateNetwork(ctx context.Context, name string, subnets []string, internal bool) error {
	if in.member == nil {
		return errNoMember
	}
	return in.member.CreateNetwork(ctx, name, subnets, internal)
}

// DeleteNetwork implements [mirror.Cluster].
func (in membership) DeleteNetwork(ctx context.Context, name string) error {
	if in.member == nil {
		return errNoMember
	}
	return in.member.DeleteNetwork(ctx, name)
}
