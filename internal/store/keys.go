package store

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/ovlnet/ovl/internal/cluster"
)

// Root is the prefix of every key of ovl. The version in it is that of the
// layout: records themselves grow by fields that older readers ignore.
const Root = "/ovl/v1/"

// The prefixes of the kinds of records. Each ends in a slash.
const (
	NetworksPrefix = Root + "networks/" // <name>; a controller
	VNIsPrefix     = Root + "vnis/"     // <vni>; a controller, with the network
	HostsPrefix    = Root + "hosts/"    // <host>; its agent, ownership lease
	DrainsPrefix   = Root + "drains/"   // <host>; a controller: the operator's wish
	SessionsPrefix = Root + "sessions/" // <host>; its agent, session lease
	ClonesPrefix   = Root + "clones/"   // <host>/<instance>; a second agent of that ID, session lease
	// CAKey says which CAs the cluster trusts; a controller. It ends in no slash: no
	// other key may begin with it.
	CAKey         = Root + "ca"
	subnetsRoot   = Root + "subnets/" // <network>/<prefix>; its host, ownership lease
	endpointsRoot = Root + "endpoints/"
	// <host>; a controller, for as long as the host is a member
	CertificatesPrefix = Root + "certificates/"
)

// The key functions below trust their arguments: whoever takes a name from
// outside checks it first, or the key is merely one that no parser accepts.

// NetworkKey is the key of a network.
func NetworkKey(name string) string { return NetworksPrefix + name }

// VNIKey is the key that reserves a VNI.
func VNIKey(vni cluster.VNI) string { return VNIsPrefix + strconv.FormatUint(uint64(vni), 10) }

// HostKey is the key of a host's own record.
func HostKey(id cluster.HostID) string { return HostsPrefix + string(id) }

// CertificateKey is the key of a host's certificate.
func CertificateKey(id cluster.HostID) string { return CertificatesPrefix + string(id) }

// DrainKey is the key that is present while an operator wants a host drained.
func DrainKey(id cluster.HostID) string { return DrainsPrefix + string(id) }

// SessionKey is the key of a host's session.
func SessionKey(id cluster.HostID) string { return SessionsPrefix + string(id) }

// CloneKey is the key at which one agent process says that it found its host's
// session taken by another one.
func CloneKey(id cluster.HostID, instance string) string { return HostClonesPrefix(id) + instance }

// HostClonesPrefix begins the keys of all agents that found a host's session taken.
func HostClonesPrefix(id cluster.HostID) string { return ClonesPrefix + string(id) + "/" }

// SubnetKey is the key of the lease of a subnet. The prefix is one element of
// the key: 10.64.1.0-24, fd64:1::-64.
func SubnetKey(network string, prefix netip.Prefix) string {
	return SubnetsPrefix(network) + prefixElement(prefix)
}

// SubnetsPrefix begins the keys of the leases of a network, or of all networks
// if it is empty.
func SubnetsPrefix(network string) string { return within(subnetsRoot, network) }

// EndpointKey is the key of an endpoint.
func EndpointKey(network string, host cluster.HostID, id string) string {
	return HostEndpointsPrefix(network, host) + id
}

// EndpointsPrefix begins the keys of the endpoints of a network, or of all
// networks if it is empty.
func EndpointsPrefix(network string) string { return within(endpointsRoot, network) }

// HostEndpointsPrefix begins the keys of a host's endpoints on a network.
func HostEndpointsPrefix(network string, host cluster.HostID) string {
	return within(endpointsRoot, network) + string(host) + "/"
}

func within(root, network string) string {
	if network == "" {
		return root
	}
	return root + network + "/"
}

func prefixElement(p netip.Prefix) string {
	return p.Addr().String() + "-" + strconv.Itoa(p.Bits())
}

// errKey is the cause of every refusal of a key that is not of our layout.
var errKey = errors.New("not a key of this kind")

// ParseNetworkKey returns the name in a network's key.
func ParseNetworkKey(key string) (string, error) {
	name, err := elements(key, NetworksPrefix, 1)
	if err != nil {
		return "", err
	}
	if err := cluster.CheckName(name[0]); err != nil {
		return "", badKey(key, err)
	}
	return name[0], nil
}

// ParseVNIKey returns the VNI that a key reserves.
func ParseVNIKey(key string) (cluster.VNI, error) {
	e, err := elements(key, VNIsPrefix, 1)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(e[0], 10, 32)
	vni := cluster.VNI(n)
	if err != nil || !vni.Valid() || VNIKey(vni) != key {
		return 0, badKey(key, fmt.Errorf("want a VNI from %d to %d", cluster.MinVNI, cluster.MaxVNI))
	}
	return vni, nil
}

// ParseHostKey returns the host of its record's key.
func ParseHostKey(key string) (cluster.HostID, error) { return parseHost(key, HostsPrefix) }

// ParseCertificateKey returns the host of its certificate's key.
func ParseCertificateKey(key string) (cluster.HostID, error) {
	return parseHost(key, CertificatesPrefix)
}

// ParseDrainKey returns the host that a key wants drained.
func ParseDrainKey(key string) (cluster.HostID, error) { return parseHost(key, DrainsPrefix) }

// ParseSessionKey returns the host of a session's key.
func ParseSessionKey(key string) (cluster.HostID, error) { return parseHost(key, SessionsPrefix) }

// ParseCloneKey returns the host and the agent process of a clone's key.
func ParseCloneKey(key string) (host cluster.HostID, instance string, err error) {
	e, err := elements(key, ClonesPrefix, 2)
	if err != nil {
		return "", "", err
	}
	host, err = cluster.ParseHostID(e[0])
	if err == nil {
		err = CheckID(e[1])
	}
	if err != nil {
		return "", "", badKey(key, err)
	}
	return host, e[1], nil
}

// ParseSubnetKey returns the network and the prefix of a lease's key.
func ParseSubnetKey(key string) (network string, prefix netip.Prefix, err error) {
	e, err := elements(key, subnetsRoot, 2)
	if err != nil {
		return "", netip.Prefix{}, err
	}
	if err := cluster.CheckName(e[0]); err != nil {
		return "", netip.Prefix{}, badKey(key, err)
	}
	// One spelling only: otherwise two hosts could hold one prefix under two keys.
	addr, bits, _ := strings.Cut(e[1], "-")
	prefix, err = netip.ParsePrefix(addr + "/" + bits)
	if err == nil {
		err = checkPrefix(prefix)
	}
	if err == nil && prefixElement(prefix) != e[1] {
		err = fmt.Errorf("want the prefix written %s", prefixElement(prefix))
	}
	if err != nil {
		return "", netip.Prefix{}, badKey(key, err)
	}
	return e[0], prefix, nil
}

// ParseEndpointKey returns the network, the host and the ID of an endpoint's key.
func ParseEndpointKey(key string) (network string, host cluster.HostID, id string, err error) {
	e, err := elements(key, endpointsRoot, 3)
	if err != nil {
		return "", "", "", err
	}
	err = cluster.CheckName(e[0])
	if err == nil {
		host, err = cluster.ParseHostID(e[1])
	}
	if err == nil {
		err = CheckID(e[2])
	}
	if err != nil {
		return "", "", "", badKey(key, err)
	}
	return e[0], host, e[2], nil
}

// MaxIDLen is the longest ID of an endpoint or of an agent process, in bytes.
const MaxIDLen = 128

// CheckID reports whether s can be the ID of an endpoint: what runtimes make up
// (hexadecimal digests, UUIDs, pod names), as long as it is one element of a
// key and of a path: 1 to [MaxIDLen] of A-Z, a-z, 0-9, '_', '.' and '-', but
// neither "." nor "..".
func CheckID(s string) error {
	if len(s) < 1 || len(s) > MaxIDLen || s == "." || s == ".." {
		return fmt.Errorf("ID %q: want 1 to %d characters", clip(s), MaxIDLen)
	}
	for _, c := range []byte(s) {
		if !isAlphanumeric(c) && c != '_' && c != '.' && c != '-' {
			return fmt.Errorf("ID %q: want letters, digits, '_', '.' and '-'", clip(s))
		}
	}
	return nil
}

func isAlphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

func parseHost(key, prefix string) (cluster.HostID, error) {
	e, err := elements(key, prefix, 1)
	if err != nil {
		return "", err
	}
	id, err := cluster.ParseHostID(e[0])
	if err != nil {
		return "", badKey(key, err)
	}
	return id, nil
}

// elements returns what follows prefix in key, split at slashes into exactly n.
func elements(key, prefix string, n int) ([]string, error) {
	rest, ok := strings.CutPrefix(key, prefix)
	if !ok || strings.Count(rest, "/") != n-1 {
		return nil, badKey(key, errKey)
	}
	return strings.Split(rest, "/"), nil
}

func badKey(key string, err error) error { return fmt.Errorf("parse key %q: %w", clip(key), err) }

// clip keeps hostile text out of error lines.
func clip(s string) string {
	if len(s) > 160 {
		return s[:160] + "…"
	}
	return s
}
