package identity

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/ovlnet/ovl/internal/cluster"
)

// Role is what kind of holder a certificate has. What it may do is not decided
// here.
type Role string

// The roles.
const (
	Controller Role = "controller" // a controller; the only one that serves
	Host       Role = "host"       // an agent; its name is a HostID
	Admin      Role = "admin"
	Operator   Role = "operator"
	Viewer     Role = "viewer"
)

// Local is the name of the admin whose key lies beside the CA's.
const Local = "local"

// ParseRole returns s as a role.
func ParseRole(s string) (Role, error) {
	switch r := Role(s); r {
	case Controller, Host, Admin, Operator, Viewer:
		return r, nil
	}
	return "", fmt.Errorf("role %q: want controller, host, admin, operator or viewer", clip(s))
}

// Who is what a certificate says about its holder.
type Who struct {
	Role Role
	Name string // of a host its HostID, of others a DNS label
}

// scheme is that of the URI in which a certificate says who its holder is.
const scheme = "ovl"

// String names the holder as people read it: "host 3f…", "operator ann".
func (w Who) String() string { return string(w.Role) + " " + w.Name }

// CommonName is the name under which etcd knows the holder.
func (w Who) CommonName() string { return string(w.Role) + "-" + w.Name }

// HostID returns the host that the holder is, if it is one.
func (w Who) HostID() (cluster.HostID, bool) {
	return cluster.HostID(w.Name), w.Role == Host
}

// Check reports whether a certificate can say this.
func (w Who) Check() error {
	if _, err := ParseRole(string(w.Role)); err != nil {
		return err
	}
	if w.Role == Host {
		_, err := cluster.ParseHostID(w.Name)
		return err
	}
	return cluster.CheckName(w.Name)
}

func (w Who) uri() *url.URL {
	return &url.URL{Scheme: scheme, Host: string(w.Role), Path: "/" + w.Name}
}

// errNobody is a certificate that says nothing, or more than one thing.
var errNobody = errors.New("it names no member of an ovl cluster")

// whoIs returns what a certificate says, whoever issued it.
func whoIs(c *x509.Certificate) (Who, error) {
	if len(c.URIs) != 1 {
		return Who{}, errNobody
	}
	u := c.URIs[0]
	w := Who{Role: Role(u.Host), Name: strings.TrimPrefix(u.Path, "/")}
	if w.Check() != nil || *u != *w.uri() {
		return Who{}, errNobody
	}
	return w, nil
}

// clip keeps hostile text out of error lines.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}

// WhoIs returns what the certificate of a connection says that the TLS library
// has verified, against trusted roots alone.
func WhoIs(verified [][]*x509.Certificate) (Who, error) {
	if len(verified) == 0 || len(verified[0]) == 0 {
		return Who{}, errors.New("no certificate was shown")
	}
	return whoIs(verified[0][0])
}
