package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"syscall"

	"github.com/ovlnet/ovl/controller/embedstore"
	"github.com/ovlnet/ovl/internal/store"
	"github.com/ovlnet/ovl/internal/store/etcd"
)

// backend is the etcd in use: one within, or a cluster outside.
type backend struct {
	kv        store.KV
	endpoints []string
	within    *embedstore.Store // nil: outside
	users     *etcd.Users       // of the one outside, which asks for certificates
}

// openBackend starts the etcd within and waits for it, or connects to the one
// outside without waiting: health tells when it answers.
func openBackend(ctx context.Context, o options, who *trust, log *slog.Logger) (*backend, error) {
	b := &backend{endpoints: o.etcd}
	if len(o.etcd) == 0 {
		within, err := embedstore.Start(ctx, embedstore.Config{
			DataDir: o.dataDir, ClientAddr: o.etcdListen, Log: log.With(slog.String("part", "etcd")),
			TLS: who.etcdServer(), Accept: who.accept(), Refused: who.etcdRefused,
		})
		if err != nil {
			return nil, withAdvice(err)
		}
		b.within, b.endpoints = within, within.Endpoints()
	}
	settings, err := who.etcdClient(o.identity)
	var client *etcd.Store
	if err == nil {
		client, err = etcd.Dial(etcd.Config{Endpoints: b.endpoints, TLS: settings, Dialer: who.etcdDialer(b), Log: log.With(slog.String("part", "etcd client"))})
	}
	if err != nil {
		return nil, oneLine([]error{err, b.close()})
	}
	b.kv = client
	if !b.embedded() && who.keys != nil {
		users := client.Users()
		b.users = &users
	}
	who.follow(b.kv, log)
	return b, nil
}

// withAdvice adds which flag to change, where that may help.
func withAdvice(err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE), errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%w: choose another address with --etcd-listen", err)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w: choose another directory with --data-dir", err)
	}
	return err
}

func (b *backend) embedded() bool { return b.within != nil }

// watch returns when ctx is done, or with an error when the etcd within ended
// by itself.
func (b *backend) watch(ctx context.Context) error {
	var ended <-chan struct{} // never, outside
	if b.within != nil {
		ended = b.within.Done()
	}
	select {
	case <-ended:
		return errors.New("run etcd: it ended by itself: see the log with --log-level debug, then start again")
	case <-ctx.Done():
		return nil
	}
}

func (b *backend) close() error {
	var errs []error
	if b.kv != nil {
		errs = append(errs, b.kv.Close())
	}
	if b.within != nil {
		errs = append(errs, b.within.Close())
	}
	return oneLine(errs)
}
