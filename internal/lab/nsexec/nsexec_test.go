package nsexec_test

import (
	"net"
	"os"
	"testing"

	"github.com/ovlnet/ovl/internal/lab/nsexec"
)

func TestMain(m *testing.M) { nsexec.Main(m) }

func TestNetworkIsPrivate(t *testing.T) {
	if !nsexec.Inside() {
		t.Fatal("test runs in the namespaces of the machine")
	}
	links, err := net.Interfaces()
	if err != nil {
		t.Fatalf("list links: %v", err)
	}
	for _, l := range links {
		if l.Flags&net.FlagUp != 0 && l.Name != "lo" {
			t.Errorf("link %s is up; want nothing but a loopback", l.Name)
		}
		if l.Name == "lo" && l.Flags&net.FlagUp == 0 {
			t.Error("lo is down")
		}
	}
}

func TestRunIsPrivateAndRootMayWrite(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Errorf("user is %d; want root of the namespace", os.Geteuid())
	}
	entries, err := os.ReadDir("/run")
	if err != nil {
		t.Fatalf("read /run: %v", err)
	}
	if len(entries) != 0 {
		t.Errorf("/run holds %d entries; want none", len(entries))
	}
	if err := os.MkdirAll("/run/netns", 0o755); err != nil {
		t.Errorf("write below /run: %v", err)
	}
}
