package main

import (
	"context"
	"crypto/x509"
	"fmt"

	"github.com/ovlnet/ovl/internal/identity"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// join makes a key and has it certified, for a token.
func (c *client) join(ctx context.Context, t identity.Token) (identity.Pair, []*x509.Certificate, error) {
	key, err := identity.NewKey()
	if err != nil {
		return identity.Pair{}, nil, err
	}
	request, err := identity.NewRequest(key)
	if err != nil {
		return identity.Pair{}, nil, err
	}
	m, err := ovlv1.NewJoinServiceClient(c.conn).Join(ctx, &ovlv1.JoinRequest{TokenId: t.ID, Secret: t.Secret, Request: request})
	if err != nil {
		return identity.Pair{}, nil, c.explain("log in", err)
	}
	chain, err := identity.ParseChain(m.GetChain())
	if err != nil {
		return identity.Pair{}, nil, fmt.Errorf("log in: %w", err)
	}
	roots, err := identity.ParseChain(m.GetRoots())
	return identity.Pair{Chain: chain, Key: key}, roots, err
}
