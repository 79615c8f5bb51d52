package main

import (
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/ovlnet/ovl/internal/identity"
)

// credentials returns what the controller is shown, and whom is trusted to be
// one.
func (o *options) credentials(c *client) (credentials.TransportCredentials, error) {
	address := c.address
	if o.plaintext {
		host, _, _ := net.SplitHostPort(address)
		if a, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !a.IsLoopback()) {
			return nil, usagef("--insecure-plaintext: plain text is for loopback addresses only, and the controller is at %s", address)
		}
		return insecure.NewCredentials(), nil
	}
	if o.ca == "" || o.cert == "" {
		return nil, usagef("ask controller %s: nothing says who you are: be root on the controller's machine, name its context with --config DATA-DIR/identity/ovlctl.yaml, or get a token from an admin for ovlctl login", address)
	}
	own, err := o.credential()
	if err != nil {
		return nil, err
	}
	c.own, c.ca = own, identity.PrintOf(own.Roots()[0])
	return credentials.NewTLS(c.watched(own)), nil
}

// credential reads the files.
func (o *options) credential() (*identity.Credential, error) {
	pair, err := identity.ReadPair(o.cert, o.key)
	if err != nil {
		return nil, unreadable(err)
	}
	data, err := identity.Read(o.ca)
	if err != nil {
		return nil, unreadable(err)
	}
	roots, err := identity.ParseCerts(data)
	if err != nil {
		return nil, usagef("read CA %s: %w", o.ca, err)
	}
	return identity.NewCredential(pair, roots, time.Now), nil
}

func unreadable(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return usagef("%w: run it as root, or get a token from an admin for ovlctl login", err)
	}
	return usagef("%w", err)
}
