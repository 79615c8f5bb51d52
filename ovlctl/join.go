package main

import (
	"context"
	"crypto"
	"crypto/x509"
	"fmt"

	"github.com/ovlnet/ovl/internal/identity"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// join makes a key and has it certified, for a token. The key of before, if there is
// one, hands over to it: who logs in again need not be removed first.
func (c *client) join(ctx context.Context, t identity.Token, before crypto.Signer) (identity.Pair, []*x509.Certificate, error) {
	key, err := identity.NewKey()
	if err != nil {
		return identity.Pair{}, nil, err
	}
	request, err := identity.NewRequest(key)
	if err != nil {
		return identity.Pair{}, nil, err
	}
	req := &ovlv1.JoinRequest{TokenId: t.ID, Secret: t.Secret, Request: request}
	if before != nil {
		if req.Handover, err = identity.NewHandover(before, request); err != nil {
			return identity.Pair{}, nil, err
		}
	}
	m, err := c.joins().Join(ctx, req)
	if err != nil {
		return identity.Pair{}, nil, c.explain("log in", err)
	}
	pair, roots, err := identity.Accept(m.GetChain(), m.GetRoots(), key)
	if err != nil {
		return identity.Pair{}, nil, fmt.Errorf("log in: %w", err)
	}
	return pair, roots, nil
}
