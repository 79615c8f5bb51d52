package store_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/store"
)

const hostA cluster.HostID = "0123456789abcdef0123456789abcdef"

// The layout is on disk in every cluster: it does not change by accident.
func TestLayout(t *testing.T) {
	for got, want := range map[string]string{
		store.NetworkKey("blue"):     "/ovl/v1/networks/blue",
		store.VNIKey(4711):           "/ovl/v1/vnis/4711",
		store.HostKey(hostA):         "/ovl/v1/hosts/" + string(hostA),
		store.DrainKey(hostA):        "/ovl/v1/drains/" + string(hostA),
		store.SessionKey(hostA):      "/ovl/v1/sessions/" + string(hostA),
		store.CloneKey(hostA, "i-1"): "/ovl/v1/clones/" + string(hostA) + "/i-1",
		store.SubnetKey("blue", netip.MustParsePrefix("10.64.1.0/24")):   "/ovl/v1/subnets/blue/10.64.1.0-24",
		store.SubnetKey("blue", netip.MustParsePrefix("fd64:0:1::0/64")): "/ovl/v1/subnets/blue/fd64:0:1::-64",
		store.EndpointKey("blue", hostA, "web_1.x"):                      "/ovl/v1/endpoints/blue/" + string(hostA) + "/web_1.x",
		store.SubnetsPrefix(""):                                          "/ovl/v1/subnets/",
		store.SubnetsPrefix("blue"):                                      "/ovl/v1/subnets/blue/",
		store.EndpointsPrefix(""):                                        "/ovl/v1/endpoints/",
		store.HostEndpointsPrefix("blue", hostA):                         "/ovl/v1/endpoints/blue/" + string(hostA) + "/",
	} {
		if got != want {
			t.Errorf("key %q, want %q", got, want)
		}
		if r, ok := reprint(got); ok && r != got {
			t.Errorf("key %q parsed and printed is %q", got, r)
		} else if !ok && !strings.HasSuffix(got, "/") {
			t.Errorf("key %q: no parser takes it", got)
		}
	}
}

func TestKeysRefused(t *testing.T) {
	host := string(hostA)
	for _, key := range []string{
		"", "/", store.Root, store.NetworksPrefix, "/ovl/v2/networks/blue", "/ovl/v1/networks/blue/", "/ovl/v1/networks//blue",
		"/ovl/v1/networks/Blue", "/ovl/v1/networks/-", "/ovl/v1/networks/../x", "/ovl/v1/networks/" + strings.Repeat("a", 64),
		"/ovl/v1/vnis/0", "/ovl/v1/vnis/01", "/ovl/v1/vnis/+1", "/ovl/v1/vnis/16777216", "/ovl/v1/vnis/4294967297", "/ovl/v1/vnis/x",
		"/ovl/v1/hosts/" + strings.ToUpper(host), "/ovl/v1/hosts/" + host[1:], "/ovl/v1/hosts/" + host + "0",
		"/ovl/v1/clones/" + host, "/ovl/v1/clones/" + host + "/", "/ovl/v1/clones/" + host + "/a/b",
		"/ovl/v1/subnets/blue/10.64.1.0", "/ovl/v1/subnets/blue/10.64.1.1-24", "/ovl/v1/subnets/blue/10.64.1.0-024",
		"/ovl/v1/subnets/blue/10.64.1.0/24", "/ovl/v1/subnets/blue/10.64.01.0-24", "/ovl/v1/subnets/blue/10.64.1.0-33",
		"/ovl/v1/subnets/blue/FD64::-64", "/ovl/v1/subnets/blue/fd64:0::-64", "/ovl/v1/subnets/blue/::ffff:10.0.0.0-120",
		"/ovl/v1/subnets/blue/fe80::%eth0-64", "/ovl/v1/subnets//10.64.1.0-24", "/ovl/v1/subnets/blue/-",
		"/ovl/v1/endpoints/blue/" + host + "/", "/ovl/v1/endpoints/blue/" + host + "/..", "/ovl/v1/endpoints/blue/" + host + "/a b",
		"/ovl/v1/endpoints/blue/" + host + "/" + strings.Repeat("a", 129), "/ovl/v1/endpoints/blue/h2/web",
	} {
		if got, ok := reprint(key); ok {
			t.Errorf("key %q: taken for %q", key, got)
		}
	}
}

// reprint parses a key by whatever parser takes it and prints it again.
func reprint(key string) (string, bool) {
	if name, err := store.ParseNetworkKey(key); err == nil {
		return store.NetworkKey(name), true
	}
	if vni, err := store.ParseVNIKey(key); err == nil {
		return store.VNIKey(vni), true
	}
	if id, err := store.ParseHostKey(key); err == nil {
		return store.HostKey(id), true
	}
	if id, err := store.ParseDrainKey(key); err == nil {
		return store.DrainKey(id), true
	}
	if id, err := store.ParseSessionKey(key); err == nil {
		return store.SessionKey(id), true
	}
	if id, instance, err := store.ParseCloneKey(key); err == nil {
		return store.CloneKey(id, instance), true
	}
	if network, prefix, err := store.ParseSubnetKey(key); err == nil {
		return store.SubnetKey(network, prefix), true
	}
	if network, host, id, err := store.ParseEndpointKey(key); err == nil {
		return store.EndpointKey(network, host, id), true
	}
	return "", false
}

// What a parser takes is the one spelling of its key.
func FuzzParseKey(f *testing.F) {
	for _, key := range []string{
		store.NetworkKey("blue"), store.VNIKey(1), store.HostKey(hostA), store.DrainKey(hostA), store.SessionKey(hostA),
		store.CloneKey(hostA, "x"), store.SubnetKey("blue", netip.MustParsePrefix("fd64::/64")), store.EndpointKey("blue", hostA, "web"),
	} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		if got, ok := reprint(key); ok && got != key {
			t.Errorf("key %q is %q printed again", key, got)
		}
	})
}
