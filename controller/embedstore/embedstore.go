// Package embedstore is the etcd that a controller runs within itself, so that
// one binary is a whole control plane: a cluster of one member, which has no
// peer and listens for none.
//
// It must never end the process or print: what etcd calls fatal comes back as
// an error of one line. The invariant it keeps is that at most one process
// serves a data directory, and that a member started again on its data serves
// it whatever address it listens on now.
package embedstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"

	"go.etcd.io/etcd/server/v3/embed"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"

	"github.com/ovlnet/ovl/internal/cluster"
)

// DefaultClientAddr is where agents and other controllers find the store.
const DefaultClientAddr = ":6779"

// Config says where the store keeps its data and listens.
type Config struct {
	DataDir string // made if it is missing
	// ClientAddr is host:port; an empty host is every address, port 0 any free
	// one. Empty = [DefaultClientAddr].
	ClientAddr string
	// TLS is what the server does with a connection; nil is plain text, for loopback
	// alone. It must demand and verify the certificates of clients.
	TLS credentials.TransportCredentials
	// Accept is asked about each call, with the connection that it comes on. Nil
	// accepts all.
	Accept func(context.Context, tls.ConnectionState) (Visitor, error)
	// Refused is told of each call that was refused; nil: nobody is.
	Refused func(Refusal)
	Log     *slog.Logger // etcd's own words, at debug; nil = none
	// UnsafeNoSync loses data when the machine stops. For tests.
	UnsafeNoSync bool
}

// Refusal is a call that was refused.
type Refusal struct {
	Host   cluster.HostID // whose certificate was shown; empty: no host's, or none that counts
	From   netip.AddrPort
	Method string // as gRPC has it
	Code   codes.Code
	Err    error
}

// Visitor is who calls.
type Visitor struct {
	// Host limits the caller to what this host may do; empty: he may do all.
	Host cluster.HostID
	// Gone ends the calls that never end by themselves; nil: never.
	Gone <-chan struct{}
}

// Store is a running embedded etcd.
type Store struct {
	etcd    *embed.Etcd
	lock    *os.File
	streams *streams
	web     *webSocket
	scheme  string
}

// Start starts the store and returns when it serves, or when ctx ends.
func Start(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.ClientAddr == "" {
		cfg.ClientAddr = DefaultClientAddr
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	addr, err := clientAddr(ctx, cfg.ClientAddr)
	if err != nil {
		return nil, fmt.Errorf("start store: %w", err)
	}
	lock, err := lockDir(cfg.DataDir)
	if err != nil {
		return nil, fmt.Errorf("start store: %w", err)
	}
	s := &Store{lock: lock, streams: newStreams(), scheme: "http"}
	cfg.Log = slog.New(untilEnd{cfg.Log.Handler(), s.streams.ending})
	if cfg.TLS != nil {
		s.scheme = "https"
	}
	d := newDoor(cfg.Accept, cfg.Refused)
	if s.web, err = newWebSocket(cfg.DataDir); err == nil {
		s.etcd, err = start(ctx, settings(cfg, addr, s.streams, d, s.web), d)
	}
	if err != nil {
		_ = errors.Join(s.web.close(), lock.Close()) // the lock goes with the descriptor
		return nil, fmt.Errorf("start store: %w", err)
	}
	return s, nil
}

// clientAddr resolves what a person wrote and makes sure that it is free: etcd
// would say so in many more words.
func clientAddr(ctx context.Context, s string) (netip.AddrPort, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", s)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("listen on %s: %w", s, errors.Unwrap(err))
	}
	// Port 0 is settled here: etcd would advertise it as it is.
	addr := l.Addr().(*net.TCPAddr).AddrPort()
	if err := l.Close(); err != nil {
		return netip.AddrPort{}, fmt.Errorf("listen on %s: %w", s, err)
	}
	return addr, nil
}

// start starts etcd and waits until it serves. What etcd calls fatal while it
// reads its data is a panic in this goroutine (see settings): damaged files
// mostly.
func start(ctx context.Context, settings *embed.Config, d *door) (e *embed.Etcd, err error) {
	defer func() {
		if r := recover(); r != nil {
			e, err = nil, damaged(settings.Dir, fmt.Errorf("open data: damaged: %v", r))
		}
	}()
	if err := precheck(settings.Dir); err != nil {
		return nil, err
	}
	e, err = embed.StartEtcd(settings)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", settings.Dir, err)
	}
	select {
	case <-e.Server.ReadyNotify():
		if err = d.open(ctx, e.Server); err == nil {
			return e, nil
		}
	case err = <-e.Err():
	case <-e.Server.StopNotify():
		err = errors.New("etcd stopped")
	case <-ctx.Done():
		err = ctx.Err()
	}
	e.Close()
	return nil, fmt.Errorf("open %s: %w", settings.Dir, err)
}

// Endpoints returns where this process reaches the store.
func (s *Store) Endpoints() []string {
	addr := s.Addr()
	if addr.Addr().IsUnspecified() {
		// Also for "::": package net listens on both families there.
		addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), addr.Port())
	}
	return []string{s.scheme + "://" + addr.String()}
}

// Addr returns where the store listens for clients.
func (s *Store) Addr() netip.AddrPort {
	for _, l := range s.etcd.Clients {
		if tcp, ok := l.Addr().(*net.TCPAddr); ok {
			return tcp.AddrPort()
		}
	}
	return netip.AddrPort{} // not while it runs
}

// Done is closed when the store has stopped, by Close or by itself.
func (s *Store) Done() <-chan struct{} { return s.etcd.Server.StopNotify() }

// Close stops the store and waits until its data is safe on disk.
func (s *Store) Close() error {
	s.streams.end()
	s.etcd.Close()
	if err := errors.Join(s.web.close(), s.lock.Close()); err != nil {
		return fmt.Errorf("close store: %w", err)
	}
	return nil
}
