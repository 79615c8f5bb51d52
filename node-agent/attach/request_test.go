package attach

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/ovlnet/ovl/internal/cluster"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

func valid() *ovlv1.AttachRequest {
	return &ovlv1.AttachRequest{
		Name: "web", Netns: "/run/netns/web",
		Interfaces: []*ovlv1.InterfaceRequest{{Network: "blue"}, {Network: "red", Name: "eth0"}, {Network: "green"}},
	}
}

func TestParseRequestDefaults(t *testing.T) {
	m := valid()
	m.Interfaces[0].Addresses = []string{"::ffff:10.64.3.9", "fd64::9"}
	m.Interfaces[0].Mac = "02:AB:00:00:00:01"
	r, err := ParseRequest(m)
	if err != nil {
		t.Fatal(err)
	}
	if r.ID != "web" || r.Hostname != "web" {
		t.Errorf("ID %q and hostname %q, want the name", r.ID, r.Hostname)
	}
	var names []string
	for _, w := range r.Interfaces {
		names = append(names, w.Name)
	}
	if want := []string{"eth1", "eth0", "eth2"}; !slices.Equal(names, want) {
		t.Errorf("interfaces %v, want %v", names, want)
	}
	if w := r.Interfaces[0]; w.Addrs[0] != adr("10.64.3.9") || w.Addrs[1] != adr("fd64::9") || w.MAC != (cluster.MAC{2, 0xab, 0, 0, 0, 1}) {
		t.Errorf("parsed %+v", w)
	}
}

func TestParseRequestViolations(t *testing.T) {
	long := strings.Repeat("a", 200)
	for field, change := range map[string][]func(*ovlv1.AttachRequest){
		"id": {
			func(m *ovlv1.AttachRequest) { m.Id = "a/b" },
			func(m *ovlv1.AttachRequest) { m.Id = long },
			func(m *ovlv1.AttachRequest) { m.Id = "a b" },
		},
		"name": {
			func(m *ovlv1.AttachRequest) { m.Name = "Web" },
			func(m *ovlv1.AttachRequest) { m.Name, m.Id = "", "x" },
		},
		"netns": {
			func(m *ovlv1.AttachRequest) { m.Netns = "" },
			func(m *ovlv1.AttachRequest) { m.Netns = "run/netns/web" },
			func(m *ovlv1.AttachRequest) { m.Netns = "/run/netns/../web" },
			func(m *ovlv1.AttachRequest) { m.Netns = "/run/netns/\nweb" },
			func(m *ovlv1.AttachRequest) { m.Netns = "/" + strings.Repeat(long, 6) },
		},
		"hostname": {func(m *ovlv1.AttachRequest) { m.Hostname = "a b" }, func(m *ovlv1.AttachRequest) { m.Hostname = long }},
		"labels": {
			func(m *ovlv1.AttachRequest) { m.Labels = map[string]string{"": "x"} },
			func(m *ovlv1.AttachRequest) { m.Labels = map[string]string{"x": long + long} },
			func(m *ovlv1.AttachRequest) { m.Labels = map[string]string{"x": "a\x00b"} },
			func(m *ovlv1.AttachRequest) {
				m.Labels = map[string]string{}
				for i := range cluster.MaxLabels + 1 {
					m.Labels[fmt.Sprint(i)] = ""
				}
			},
		},
		"interfaces": {
			func(m *ovlv1.AttachRequest) { m.Interfaces = nil },
			func(m *ovlv1.AttachRequest) {
				for len(m.Interfaces) <= maxInterfaces {
					m.Interfaces = append(m.Interfaces, &ovlv1.InterfaceRequest{Network: fmt.Sprintf("n%d", len(m.Interfaces))})
				}
			},
		},
		"interfaces[1].network": {
			func(m *ovlv1.AttachRequest) { m.Interfaces[1].Network = "blue" },
			func(m *ovlv1.AttachRequest) { m.Interfaces[1].Network = "" },
		},
		"interfaces[1].name": {
			func(m *ovlv1.AttachRequest) { m.Interfaces[1].Name = "sixteen-letters-" },
			func(m *ovlv1.AttachRequest) { m.Interfaces[1].Name = "a/b" },
			func(m *ovlv1.AttachRequest) { m.Interfaces[1].Name = ".." },
			func(m *ovlv1.AttachRequest) { m.Interfaces[1].Name = "lo" },
			func(m *ovlv1.AttachRequest) { m.Interfaces[0].Name = "eth0" },
		},
		"interfaces[1].mac": {
			func(m *ovlv1.AttachRequest) { m.Interfaces[1].Mac = "02:00:00" },
			func(m *ovlv1.AttachRequest) { m.Interfaces[1].Mac = "01:00:00:00:00:01" },
			func(m *ovlv1.AttachRequest) { m.Interfaces[1].Mac = "00:00:00:00:00:00" },
		},
		"interfaces[1].addresses": {func(m *ovlv1.AttachRequest) { m.Interfaces[1].Addresses = []string{"10.0.0.1", "::1", "::2"} }},
		"interfaces[1].addresses[1]": {
			func(m *ovlv1.AttachRequest) { m.Interfaces[1].Addresses = []string{"10.0.0.1", "10.0.0.2"} },
			func(m *ovlv1.AttachRequest) { m.Interfaces[1].Addresses = []string{"10.0.0.1", "fe80::1%eth0"} },
			func(m *ovlv1.AttachRequest) { m.Interfaces[1].Addresses = []string{"10.0.0.1", "10.0.0.0/24"} },
		},
		"interfaces[1].aliases[0]": {func(m *ovlv1.AttachRequest) { m.Interfaces[1].Aliases = []string{"A"} }},
		"interfaces[1].aliases": {
			func(m *ovlv1.AttachRequest) { m.Interfaces[1].Aliases = make([]string, cluster.MaxAliases+1) },
		},
	} {
		for i, c := range change {
			m := valid()
			c(m)
			_, err := ParseRequest(m)
			wantCode(t, err, codes.InvalidArgument)
			if got := fields(err); !slices.Equal(got, []string{field}) {
				t.Errorf("%s (%d): violations of %v: %v", field, i, got, err)
			}
		}
	}
}

// fields returns the fields that the error's details name.
func fields(err error) []string {
	var out []string
	for _, d := range status.Convert(err).Details() {
		if bad, ok := d.(*errdetails.BadRequest); ok {
			for _, v := range bad.GetFieldViolations() {
				out = append(out, v.GetField())
			}
		}
	}
	return out
}

// Every violation is named, not only the first.
func TestParseRequestCollects(t *testing.T) {
	_, err := ParseRequest(&ovlv1.AttachRequest{Id: "/", Name: "A", Netns: "x", Interfaces: []*ovlv1.InterfaceRequest{{Mac: "x"}}})
	if got, want := fields(err), []string{"interfaces[0].mac", "id", "name", "netns", "hostname", "interfaces[0].network"}; len(got) < 5 || !slices.Contains(want, got[0]) {
		t.Errorf("violations of %v", got)
	}
}

// FuzzParseRequest: whatever comes over the socket is refused in one line, or
// is within bounds, named throughout, and would be read back from the journal.
func FuzzParseRequest(f *testing.F) {
	for _, m := range []*ovlv1.AttachRequest{
		valid(),
		{},
		{Id: "a", Name: "b", Netns: "/c", Hostname: "d", Labels: map[string]string{"e": "f"}, Interfaces: []*ovlv1.InterfaceRequest{{Network: "g", Addresses: []string{"10.0.0.1"}, Mac: "02:00:00:00:00:01", Aliases: []string{"h"}}}},
	} {
		raw, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var m ovlv1.AttachRequest
		if proto.Unmarshal(raw, &m) != nil {
			return
		}
		r, err := ParseRequest(&m)
		if err != nil {
			if strings.Contains(err.Error(), "\n") || len(fields(err)) == 0 {
				t.Errorf("refused with %q naming %v", err, fields(err))
			}
			return
		}
		if bad := r.check(); len(bad) > 0 {
			t.Fatalf("taken though %v", bad)
		}
		names := map[string]bool{}
		for _, w := range r.Interfaces {
			if w.Name == "" || names[w.Name] {
				t.Fatalf("interface names %+v", r.Interfaces)
			}
			names[w.Name] = true
		}
	})
}
