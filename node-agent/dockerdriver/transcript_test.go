package dockerdriver

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/node-agent/attach"
)

var update = flag.Bool("update", false, "write the answers of the transcripts anew")

// TestTranscripts replays what engines say, in their order, and holds the answers against
// those in testdata: sections named by the call, the message and then the answer after a
// line of dashes. Run with -update to write the answers anew, and read the difference.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			inner := network("inner", 7, "10.72.0.0/16")
			inner.Internal = true
			r := newRig(t, network("blue", 5, "10.70.0.0/16", "fd70::/48"), network("red", 6, "10.71.0.0/16"), inner)
			for i, f := range ar.Files {
				message, want, _ := strings.Cut(string(f.Data), "----\n")
				answer, failure := r.call(t, f.Name, message)
				got := printed(t, answer, failure)
				if *update {
					ar.Files[i].Data = []byte(message + "----\n" + got)
				} else if got != want {
					t.Errorf("%s %s\ngot\n%s\nwant\n%s", f.Name, message, got, want)
				}
			}
			if *update {
				if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if len(r.room.atts)+len(r.room.reserved)+len(r.book.List()) != 0 {
				t.Errorf("left at the end: %v %v %v", r.room.atts, r.room.reserved, r.book.List())
			}
		})
	}
}

func printed(t *testing.T, answer map[string]any, failure string) string {
	t.Helper()
	if failure != "" {
		return "error: " + failure + "\n"
	}
	text, err := json.MarshalIndent(answer, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text) + "\n"
}

const (
	dockerNet = "a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f90"
	endpoint  = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0"
)

// made is a rig with the engine's network blue.
func made(t testing.TB, options string) *rig {
	t.Helper()
	r := newRig(t, network("blue", 5, "10.70.0.0/16"), network("red", 6, "10.71.0.0/16"))
	r.must(t, "NetworkDriver.CreateNetwork", fmt.Sprintf(`{"NetworkID":%q,"Options":{"com.docker.network.generic":{%s}},"IPv4Data":[{"AddressSpace":"ovl","Pool":"10.70.0.0/16"}]}`, dockerNet, options))
	return r
}

func create(address string) string {
	return fmt.Sprintf(`{"NetworkID":%q,"EndpointID":%q,"Interface":{"Address":%q}}`, dockerNet, endpoint, address)
}

func of(sandbox string) string {
	return fmt.Sprintf(`{"NetworkID":%q,"EndpointID":%q,"SandboxKey":%q}`, dockerNet, endpoint, sandbox)
}

// TestRefusals: what an engine cannot have, it is told why and what to do.
func TestRefusals(t *testing.T) {
	blue := `"ovl.network":"blue"`
	for _, c := range []struct {
		name, method, body string
		want               []string
	}{
		{"no JSON", "NetworkDriver.CreateNetwork", `{`, []string{"read the message"}},
		{"another type", "NetworkDriver.CreateEndpoint", `{"Interface":7}`, []string{"read the message"}},
		{"no such network", "NetworkDriver.CreateNetwork", `{"NetworkID":"n2","Options":{"com.docker.network.generic":{"ovl.network":"green"}},"IPv4Data":[{"AddressSpace":"ovl","Pool":"10.80.0.0/16"}]}`, []string{"network green is not in the cluster", "ovlctl network ls"}},
		{"another's addresses", "NetworkDriver.CreateNetwork", `{"NetworkID":"n2","IPv4Data":[{"AddressSpace":"LocalDefault","Pool":"172.18.0.0/16"}]}`, []string{"--ipam-driver ovl"}},
		{"no subnet", "NetworkDriver.CreateNetwork", `{"NetworkID":"n2"}`, []string{"--ipam-driver ovl"}},
		{"a subnet that is not its own", "NetworkDriver.CreateNetwork", `{"NetworkID":"n2","Options":{"com.docker.network.generic":{` + blue + `}},"IPv4Data":[{"AddressSpace":"ovl","Pool":"10.80.0.0/16"}]}`, []string{"network blue has no subnet 10.80.0.0/16"}},
		{"a subnet of the cluster", "NetworkDriver.CreateNetwork", `{"NetworkID":"n2","IPv4Data":[{"AddressSpace":"ovl","Pool":"10.71.0.0/16"}]}`, []string{"10.71.0.0/16 overlaps network red", "choose another"}},
		{"an egress that is none", "NetworkDriver.CreateNetwork", `{"NetworkID":"n2","Options":{"com.docker.network.generic":{` + blue + `,"egress":"nat"}},"IPv4Data":[{"AddressSpace":"ovl","Pool":"10.70.0.0/16"}]}`, []string{"egress", "docker"}},
		{"an ID that is none", "NetworkDriver.CreateNetwork", `{"NetworkID":"../n","Options":{"com.docker.network.generic":{` + blue + `}},"IPv4Data":[{"AddressSpace":"ovl","Pool":"10.70.0.0/16"}]}`, []string{"ID"}},
		{"an endpoint's ID that is none", "NetworkDriver.CreateEndpoint", `{"NetworkID":"` + dockerNet + `","EndpointID":"a b"}`, []string{"ID"}},
		{"an address without a length", "NetworkDriver.CreateEndpoint", create("10.70.0.9"), []string{"10.70.0.9", "with its length"}},
		{"an endpoint on no network", "NetworkDriver.CreateEndpoint", `{"NetworkID":"n9","EndpointID":"e9"}`, []string{"docker network n9"}},
		{"a MAC that is none", "NetworkDriver.CreateEndpoint", `{"NetworkID":"` + dockerNet + `","EndpointID":"e9","Interface":{"MacAddress":"nonsense"}}`, []string{"nonsense"}},
		{"joined without an endpoint", "NetworkDriver.Join", `{"NetworkID":"` + dockerNet + `","EndpointID":"e9","SandboxKey":"/var/run/docker/netns/1"}`, []string{"no endpoint e9", "start the container again"}},
		{"a protocol without ports", "NetworkDriver.ProgramExternalConnectivity", `{"EndpointID":"e9","Options":{"com.docker.network.portmap":[{"Proto":132,"Port":80}]}}`, []string{"132", "egress=docker"}},
		{"a host address that is none", "NetworkDriver.ProgramExternalConnectivity", `{"EndpointID":"e9","Options":{"com.docker.network.portmap":[{"Proto":6,"Port":80,"HostIP":"here"}]}}`, []string{`"here"`}},
		{"a range of its own", "IpamDriver.RequestPool", `{"Pool":"10.80.0.0/16","SubPool":"10.80.1.0/24"}`, []string{"--ip-range", "--ip"}},
		{"a pool with host bits", "IpamDriver.RequestPool", `{"Pool":"10.80.0.1/16"}`, []string{"10.80.0.0/16"}},
		{"a pool that is none", "IpamDriver.RequestPool", `{"Pool":"ten"}`, []string{`"ten"`, "--subnet"}},
		{"a part of a network", "IpamDriver.RequestPool", `{"Pool":"10.71.4.0/24"}`, []string{"network red"}},
		{"no IPv6 there", "IpamDriver.RequestPool", `{"Options":{"ovl.network":"blue"},"V6":true}`, []string{"network blue has no such subnet", "10.70.0.0/16"}},
		{"an address of no pool", "IpamDriver.RequestAddress", `{"PoolID":"x"}`, []string{"pool"}},
		{"an address of no network", "IpamDriver.RequestAddress", `{"PoolID":"10.90.0.0/16"}`, []string{"10.90.0.0/16", "not in the cluster"}},
		{"an address that is none", "IpamDriver.RequestAddress", `{"PoolID":"10.70.0.0/16","Address":"nine"}`, []string{`"nine"`}},
		{"a gateway of one's own", "IpamDriver.RequestAddress", `{"PoolID":"10.70.0.0/16","Address":"10.70.0.254","Options":{"RequestAddressType":"com.docker.network.gateway"}}`, []string{"--gateway 10.70.0.254", "leave --gateway out"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := made(t, blue)
			_, failure := r.call(t, c.method, c.body)
			for _, word := range c.want {
				if !strings.Contains(failure, word) {
					t.Errorf("error %q does not say %q", failure, word)
				}
			}
			if strings.Contains(failure, "\n") || len(r.room.atts)+len(r.room.reserved) != 0 || len(r.book.List()) != 1 {
				t.Errorf("%q leaves %v %v %v", failure, r.room.atts, r.room.reserved, r.book.List())
			}
		})
	}
}

// TestForgotten: what the engine speaks of and nobody knows, or knows no more, has ended.
func TestForgotten(t *testing.T) {
	r := made(t, `"ovl.network":"blue"`)
	for range 2 {
		for method, body := range map[string]string{
			"NetworkDriver.Leave":                       of(""),
			"NetworkDriver.DeleteEndpoint":              of(""),
			"NetworkDriver.RevokeExternalConnectivity":  of(""),
			"NetworkDriver.EndpointOperInfo":            of(""),
			"NetworkDriver.ProgramExternalConnectivity": of(""),
			"NetworkDriver.DeleteNetwork":               `{"NetworkID":"` + dockerNet + `"}`,
			"NetworkDriver.DiscoverNew":                 `{"DiscoveryType":1,"DiscoveryData":{"Address":"10.0.0.1"}}`,
			"IpamDriver.ReleasePool":                    `{"PoolID":"10.70.0.0/16"}`,
			"IpamDriver.ReleaseAddress":                 `{"PoolID":"10.70.0.0/16","Address":"10.70.0.9"}`,
		} {
			r.must(t, method, body)
		}
	}
	if len(r.book.List()) != 0 {
		t.Errorf("the book has %v", r.book.List())
	}
	w, failure := r.call(t, "NetworkDriver.Nonsense", "{}")
	if failure == "" {
		t.Errorf("an unknown call is answered %v", w)
	}
}

// TestRemovedUnheard: the subnet of a network that the engine removed while it found nobody
// is free once that has been seen.
func TestRemovedUnheard(t *testing.T) {
	const again = `{"AddressSpace":"ovl","Pool":"10.90.0.0/16"}`
	r := newRig(t)
	began := time.Now()
	r.must(t, "NetworkDriver.CreateNetwork", fmt.Sprintf(`{"NetworkID":%q,"IPv4Data":[{"AddressSpace":"ovl","Pool":"10.90.0.0/16"}]}`, dockerNet))
	for name, c := range map[string]struct {
		known map[string]bool
		since time.Time
	}{
		"it is there":             {map[string]bool{dockerNet: true}, time.Now().Add(time.Hour)},
		"it may be there by now":  {nil, began},
		"others are, and it is":   {map[string]bool{"n1": true, dockerNet: true}, time.Now().Add(time.Hour)},
		"it was not asked so far": {nil, time.Time{}},
	} {
		if gone, err := r.book.Forget(c.known, c.since); err != nil || len(gone) != 0 {
			t.Errorf("%s: forgotten %v, %v", name, gone, err)
		}
	}
	if _, failure := r.call(t, "IpamDriver.RequestPool", again); !strings.Contains(failure, "overlaps docker network") {
		t.Errorf("the subnet of a network that is there: %q", failure)
	}
	if gone, err := r.book.Forget(map[string]bool{"n1": true}, time.Now().Add(time.Second)); err != nil || len(gone) != 1 || gone[0].ID != dockerNet {
		t.Errorf("forgotten %v, %v", gone, err)
	}
	r.must(t, "IpamDriver.RequestPool", again)
	if reopened, err := OpenBook(r.book.db); err != nil || len(reopened.List()) != 0 {
		t.Errorf("on disk: %v, %v", reopened.List(), err)
	}
}

// TestUnnamed: a network that the engine made by itself works once the cluster has one of
// its subnet, and an endpoint on it waits for that with an error.
func TestUnnamed(t *testing.T) {
	r := newRig(t, network("blue", 5, "10.70.0.0/16"))
	pool := r.must(t, "IpamDriver.RequestPool", `{"AddressSpace":"ovl"}`)
	other := r.must(t, "IpamDriver.RequestPool", `{"AddressSpace":"ovl"}`)
	if pool["Pool"] != "10.64.0.0/16" || other["Pool"] != "10.65.0.0/16" {
		t.Errorf("subnets %v, %v: want free ones of the default range", pool["Pool"], other["Pool"])
	}
	six := r.must(t, "IpamDriver.RequestPool", `{"AddressSpace":"ovl","V6":true}`)
	if s, _ := six["Pool"].(string); !strings.HasPrefix(s, "fd") || !strings.HasSuffix(s, "/48") {
		t.Errorf("IPv6 subnet %v", six["Pool"])
	}
	r.must(t, "NetworkDriver.CreateNetwork", fmt.Sprintf(`{"NetworkID":%q,"IPv4Data":[{"AddressSpace":"ovl","Pool":"10.64.0.0/16"}]}`, dockerNet))
	if p, _ := r.book.Get(dockerNet); p.Network != "" || p.Marked {
		t.Errorf("page %+v", p)
	}
	if _, failure := r.call(t, "IpamDriver.RequestAddress", `{"PoolID":"10.64.0.0/16"}`); !strings.Contains(failure, "try again") {
		t.Errorf("an address of a network that is not there yet: %q", failure)
	}
	r.cluster.unseen = []cluster.Network{network("green", 9, "10.64.0.0/16")}
	got := r.must(t, "IpamDriver.RequestAddress", `{"PoolID":"10.64.0.0/16"}`)
	r.must(t, "NetworkDriver.CreateEndpoint", create(got["Address"].(string)))
	if a := r.room.atts[endpoint]; a.Interfaces[0].Network != "green" {
		t.Errorf("attached %+v", a)
	}
}

// TestLostBook: an agent that lost its book still knows an endpoint's network by its
// address.
func TestLostBook(t *testing.T) {
	r := made(t, `"ovl.network":"blue"`)
	if err := r.book.Delete(dockerNet); err != nil {
		t.Fatal(err)
	}
	r.must(t, "NetworkDriver.CreateEndpoint", create("10.71.0.9/24"))
	if a := r.room.atts[endpoint]; a.Interfaces[0].Network != "red" {
		t.Errorf("attached %+v", a)
	}
	r.must(t, "NetworkDriver.Join", of("/var/run/docker/netns/1"))
}

// TestStoreAway: the networks that are known go on working, others say why not.
func TestStoreAway(t *testing.T) {
	r := made(t, `"ovl.network":"blue"`)
	r.cluster.away = errAway
	r.must(t, "NetworkDriver.CreateEndpoint", create("10.70.0.9/24"))
	_, failure := r.call(t, "IpamDriver.RequestPool", `{"Options":{"ovl.network":"green"}}`)
	if !strings.Contains(failure, errAway.Error()) {
		t.Errorf("a network that is not known: %q", failure)
	}
}

// TestFailures: what the attach room refuses, the engine reads in its words, and can do
// again.
func TestFailures(t *testing.T) {
	r := made(t, `"ovl.network":"blue"`)
	steps := []struct{ method, body string }{
		{"IpamDriver.RequestAddress", `{"PoolID":"10.70.0.0/16"}`},
		{"NetworkDriver.CreateEndpoint", create("10.70.0.2/24")},
		{"NetworkDriver.Join", of("/var/run/docker/netns/1")},
		{"NetworkDriver.ProgramExternalConnectivity", fmt.Sprintf(`{"EndpointID":%q,"Options":{"com.docker.network.portmap":[{"Proto":6,"Port":80,"HostPort":8080,"HostPortEnd":8080}]}}`, endpoint)},
		{"NetworkDriver.RevokeExternalConnectivity", of("")},
		{"NetworkDriver.Leave", of("")},
		{"NetworkDriver.DeleteEndpoint", of("")},
	}
	for _, s := range steps {
		r.room.fail = fmt.Errorf("the kernel says no")
		if _, failure := r.call(t, s.method, s.body); failure != "the kernel says no" {
			t.Errorf("%s fails with %q", s.method, failure)
		}
		if s.method == "NetworkDriver.DeleteEndpoint" {
			break // the fake has detached it
		}
		r.must(t, s.method, s.body)
	}
}

func TestReclaim(t *testing.T) {
	r := made(t, `"ovl.network":"blue"`)
	r.must(t, "NetworkDriver.CreateEndpoint", create("10.70.0.2/24"))
	other := strings.Replace(create("10.70.0.3/24"), endpoint, "kept", 1)
	r.must(t, "NetworkDriver.CreateEndpoint", other)
	r.room.atts["cni"] = cluster.Attachment{ID: "cni", Interfaces: []cluster.Interface{{Network: "blue"}}}
	since := r.room.atts[endpoint].Created
	if gone, err := r.Reclaim(t.Context(), map[string]bool{"kept": true}, since); err != nil || len(gone) != 0 {
		t.Errorf("reclaimed %v, %v: they may be younger than what the engine said", gone, err)
	}
	gone, err := r.Reclaim(t.Context(), map[string]bool{"kept": true}, since.Add(1))
	if err != nil || !reflect.DeepEqual(gone, []string{endpoint}) || len(r.room.atts) != 2 {
		t.Errorf("reclaimed %v, %v; left %v", gone, err, r.room.atts)
	}
	if err := r.Describe(t.Context(), "kept", attach.Description{Name: "web"}); err != nil || r.Endpoints()[0].Name != "web" {
		t.Errorf("described: %v, %+v", err, r.Endpoints())
	}
}
