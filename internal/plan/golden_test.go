package plan_test

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
	"sigs.k8s.io/yaml"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/plan"
)

var update = flag.Bool("update", false, "write the golden files anew")

// facts is the first section of a golden file. Hosts are written by name; the
// host's ID is made of it.
type facts struct {
	Self     string
	Port     uint16
	Underlay plan.Underlay
	Docker   [2]bool
	NoGuard  [2]bool
	Links    []dataplane.HostLink
	Networks []cluster.Network
	Hosts    []struct {
		Name     string
		Underlay []netip.Addr
		OnLink   []netip.Prefix
		Port     uint16
	}
	Leases []struct {
		Network, Host string
		Prefix        netip.Prefix
	}
	Held []struct {
		Network string
		Prefix  netip.Prefix
	}
	Attachments []cluster.Attachment
}

// hostID makes an ID of a short name of hexadecimal letters or others.
func hostID(name string) cluster.HostID {
	return cluster.HostID(fmt.Sprintf("%032x", name))
}

func (f facts) inputs() (*cluster.Snapshot, plan.Local) {
	if f.Port == 0 {
		f.Port = 4789
	}
	var hosts []cluster.Host
	for _, h := range f.Hosts {
		port := h.Port
		if port == 0 {
			port = f.Port
		}
		hosts = append(hosts, cluster.Host{ID: hostID(h.Name), Name: h.Name, Underlay: h.Underlay, OnLink: h.OnLink, VXLANPort: port})
	}
	var leases []cluster.Lease
	for _, l := range f.Leases {
		leases = append(leases, cluster.Lease{Network: l.Network, Host: hostID(l.Host), Prefix: l.Prefix})
	}
	local := plan.Local{ID: hostID(f.Self), Underlay: f.Underlay, Port: f.Port, DockerUser: f.Docker, NoGuard: f.NoGuard, Attachments: f.Attachments, Links: f.Links}
	for _, h := range f.Held {
		local.Held = append(local.Held, cluster.Lease{Network: h.Network, Host: local.ID, Prefix: h.Prefix})
	}
	return cluster.NewSnapshot(1, f.Networks, hosts, leases), local
}

// TestGolden holds the printed tables of each case in testdata against what
// Plan returns. Run with -update to write them anew, and read the difference.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var f facts
			if err := yaml.UnmarshalStrict(ar.Files[0].Data, &f); err != nil {
				t.Fatalf("%s: %v", ar.Files[0].Name, err)
			}
			res := plan.Plan(f.inputs())
			var problems strings.Builder
			for _, p := range res.Problems {
				fmt.Fprintf(&problems, "%s %s: %s; %s\n", p.Severity, p.Subject, p.What, p.Hint)
			}
			got := []txtar.File{
				ar.Files[0],
				{Name: "rows", Data: []byte(res.State.String())},
				{Name: "problems", Data: []byte(problems.String())},
			}
			if *update {
				ar.Files = got
				if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if len(ar.Files) != len(got) {
				t.Fatalf("want sections facts.yaml, rows and problems; got %d", len(ar.Files))
			}
			for i, g := range got {
				if w := string(ar.Files[i].Data); w != string(g.Data) {
					t.Errorf("%s differ\n--- want\n%s\n--- got\n%s", g.Name, w, g.Data)
				}
			}
		})
	}
}
