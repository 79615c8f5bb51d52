package integration

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// talker is a client that sends datagrams from one port and never stops, as a
// telephone or a sensor does.
type talker struct {
	mu    sync.Mutex
	heard bytes.Buffer
}

func (k *talker) Write(b []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.heard.Write(b)
}

// forget drops what was heard, and hears returns what came since.
func (k *talker) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.heard.Reset()
}

func (k *talker) hears() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.heard.String()
}

// talk has a host of the lab send ten datagrams a second from one port.
func talk(t *testing.T, l *labtest.Lab, host string, to netip.AddrPort) *talker {
	t.Helper()
	script := fmt.Sprintf("while echo hello; do sleep 0.1; done | nc -u -p 5000 %s %d", to.Addr(), to.Port())
	cmd, err := l.Command(t.Context(), host, "sh", "-c", script)
	if err != nil {
		t.Fatal(err)
	}
	k := &talker{}
	cmd.Stdout = k
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	return k
}

// TestUDPThatNeverStops holds that datagrams go where a published port leads, now:
// a translation lasts as long as packets come, also when the rule has gone that it
// was made by, and a flow from before there was a rule is not translated at all.
func TestUDPThatNeverStops(t *testing.T) {
	t.Parallel()
	l := labtest.Up(t, lab.Config{Hosts: 1})
	l.Run(t, "h1", "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16")
	h1 := addressOf(t, l, "h1")
	// Nobody listens yet: nc would end when it is told so.
	l.Run(t, lab.Outside, "iptables", "-A", "INPUT", "-p", "icmp", "-j", "DROP")
	first := talk(t, l, lab.Outside, at(h1, 8080))
	keep := l.Sandbox(t, "h1", "keep", "--network", "blue") // so that the first address is not given out again

	reaches := func(name string) {
		t.Helper()
		first.forget()
		labtest.Until(t, "the client is answered by "+name, func() error {
			if got := first.hears(); !strings.Contains(got, addressOf(t, l, lab.Outside).String()) {
				return fmt.Errorf("it hears %q", got)
			}
			return nil
		})
	}
	for range 3 { // each has another address
		web := echo(t, l, "h1", "web", "blue", "8080:7777/udp")
		reaches(web.Addr(t).String())
		l.Run(t, "h1", "ovlctl", "rm", "-f", web.Name)
	}
	l.Run(t, "h1", "ovlctl", "rm", "-f", keep.Name)
	atRest(t, l)
}
