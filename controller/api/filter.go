package api

import (
	"context"

	"github.com/ovlnet/ovl/controller/admit"
	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/store"
)

// filter limits subnets and endpoints to a network, a host or both; empty is all.
type filter struct{ network, host string }

func (w filter) check() []admit.Violation {
	var vs []admit.Violation
	if w.network != "" {
		vs = append(vs, admit.Name("network", w.network)...)
	}
	if w.host != "" {
		vs = append(vs, admit.Name("host", w.host)...)
	}
	return vs
}

// resolve returns the ID of the host ("" = all). NOT_FOUND for a network or a
// host that does not exist: an empty list would hide a slip of the pen.
func (w filter) resolve(doing string, f facts) (cluster.HostID, error) {
	if w.network != "" {
		if _, err := f.existing(w.network); err != nil {
			return "", err
		}
	}
	if w.host == "" {
		return "", nil
	}
	h, err := f.find(doing, w.host)
	return h.ID, err
}

// readJoined reads the records under prefix with the hosts and networks that
// they are joined with, and resolves the filter.
func (s *Server) readJoined(ctx context.Context, doing string, w filter, prefix string) (facts, cluster.HostID, error) {
	f, err := s.read(ctx, prefix, store.HostsPrefix, store.NetworksPrefix)
	if err != nil {
		return f, "", failed(ctx, doing, err)
	}
	host, err := w.resolve(doing, f)
	return f, host, err
}

func keep[T any](all []T, wanted func(T) bool) []T {
	var out []T
	for _, v := range all {
		if wanted(v) {
			out = append(out, v)
		}
	}
	return out
}
