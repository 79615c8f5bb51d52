package mirror_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/node-agent/dockerdriver/engine"
	"github.com/ovlnet/ovl/node-agent/dockerdriver/mirror"
)

func wants(name, subnet string) cluster.Network {
	return cluster.Network{Name: name, Driver: cluster.DriverOverlay, Pools: []cluster.Pool{{Prefix: netip.MustParsePrefix(subnet), HostPrefix: 24}}}
}

func marked(id, name, subnet string) engine.Network {
	h := plain(id, name, subnet)
	h.Options = map[string]string{"ovl.network": name}
	return h
}

func plain(id, name, subnet string) engine.Network {
	return engine.Network{ID: id, Name: name, Driver: "ovl", IPAM: "ovl", Subnets: []netip.Prefix{netip.MustParsePrefix(subnet)}}
}

const (
	ten    = "10.70.0.0/16"
	eleven = "10.71.0.0/16"
)

func TestDiff(t *testing.T) {
	internal := wants("blue", ten)
	internal.Internal = true
	six := wants("blue", "fd70::/48")
	foreign := engine.Network{ID: "f", Name: "blue", Driver: "bridge"}
	for name, c := range map[string]struct {
		want  []cluster.Network
		have  []engine.Network
		bound map[string]string
		six   bool
		ops   string
		says  string // of the problems
	}{
		"nothing":                    {},
		"new in the cluster":         {want: []cluster.Network{wants("blue", ten)}, ops: "create docker network blue for blue"},
		"in line":                    {want: []cluster.Network{wants("blue", ten)}, have: []engine.Network{marked("1", "blue", ten)}},
		"in line, learnt":            {want: []cluster.Network{wants("my-net", ten)}, have: []engine.Network{plain("1", "My_Net", ten)}, bound: map[string]string{"1": "my-net"}},
		"deleted from the cluster":   {have: []engine.Network{marked("1", "blue", ten)}, ops: "remove docker network blue for blue"},
		"deleted, learnt":            {have: []engine.Network{plain("1", "My_Net", ten)}, bound: map[string]string{"1": "my-net"}, ops: "remove docker network My_Net for my-net"},
		"made anew with others":      {want: []cluster.Network{wants("blue", eleven)}, have: []engine.Network{marked("1", "blue", ten)}, ops: "remove docker network blue for blue; create docker network blue for blue"},
		"made internal":              {want: []cluster.Network{internal}, have: []engine.Network{marked("1", "blue", ten)}, ops: "remove docker network blue for blue; create docker network blue for blue"},
		"new on the engine":          {have: []engine.Network{plain("1", "My_Net", ten)}, ops: "adopt docker network My_Net for my-net"},
		"new on both, the same":      {want: []cluster.Network{wants("blue", ten)}, have: []engine.Network{plain("1", "blue", ten)}, ops: "bind docker network blue for blue"},
		"new on both, otherwise":     {want: []cluster.Network{wants("blue", eleven)}, have: []engine.Network{plain("1", "blue", ten)}, says: "is in the cluster with other settings"},
		"foreign":                    {want: []cluster.Network{wants("blue", ten)}, have: []engine.Network{foreign}, says: "with the driver bridge"},
		"two for one":                {want: []cluster.Network{wants("blue", ten)}, have: []engine.Network{marked("1", "blue", ten), plain("2", "Blue", eleven)}, says: "and so does docker network blue"},
		"no name":                    {have: []engine.Network{plain("1", "___", ten)}, says: "no network of the cluster can have its name"},
		"IPv6 alone, old engine":     {want: []cluster.Network{six}, says: "no network without IPv4"},
		"IPv6 alone":                 {want: []cluster.Network{six}, six: true, ops: "create docker network blue for blue"},
		"of other drivers":           {have: []engine.Network{foreign, {ID: "h", Name: "host", Driver: "host"}}},
		"several, in a steady order": {want: []cluster.Network{wants("red", eleven), wants("blue", ten)}, ops: "create docker network blue for blue; create docker network red for red"},
	} {
		t.Run(name, func(t *testing.T) {
			ops, problems := mirror.Diff(c.want, mirror.Have{Networks: c.have, Bound: c.bound, OnlyIPv6: c.six})
			if got := texts(ops); got != c.ops {
				t.Errorf("operations %q, want %q", got, c.ops)
			}
			if c.says == "" && len(problems) > 0 || c.says != "" && (len(problems) != 1 || !strings.Contains(problems[0].What, c.says) || problems[0].Hint == "") {
				t.Errorf("problems %+v, want %q", problems, c.says)
			}
		})
	}
}

func texts(ops []mirror.Op) string {
	var all []string
	for _, op := range ops {
		all = append(all, op.String())
	}
	return strings.Join(all, "; ")
}

func TestNameOf(t *testing.T) {
	for docker, want := range map[string]string{
		"blue": "blue", "My_Net": "my-net", "shop_default": "shop-default", "a.b": "a-b", "_x_": "x", "___": "", "Ünï": "n",
	} {
		if got := mirror.NameOf(docker); got != want {
			t.Errorf("%s: %s, want %s", docker, got, want)
		}
	}
}

func TestDescribe(t *testing.T) {
	c := engine.Container{ID: "0123456789abcdef", Name: "shop_web_1", Hostname: "0123456789ab"}
	on := engine.Plugged{Aliases: []string{"0123456789ab", "db.example.com", "web"}}
	is, problem := mirror.Describe(c, on)
	if is.Name != "shop_web_1" || !slices.Equal(is.Aliases, []string{"0123456789ab", "web"}) || problem != nil {
		t.Errorf("%+v, %v", is, problem)
	}
	c.Name, c.Hostname = "a.b", "odd_host"
	is, problem = mirror.Describe(c, on)
	if is.Name != "0123456789ab" || !slices.Equal(is.Aliases, []string{"web"}) || problem == nil || is.Hostname != "0123456789ab" {
		t.Errorf("%+v, %v", is, problem)
	}
	if is, problem = mirror.Describe(c, engine.Plugged{}); is.Name != "" || problem == nil {
		t.Errorf("%+v, %v", is, problem)
	}
}
