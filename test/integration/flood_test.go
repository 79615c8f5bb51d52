package integration

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// floodEnv makes this test binary one who floods: TestFlooder.
const floodEnv = "OVL_TEST_FLOOD"

// floodSilent is how many connections he opens and says nothing on, and floodHands
// how many hands he shakes at once, again and again, at each port.
const floodSilent, floodHands = 600, 50

// TestFlooder floods the ports of a controller until its stdin ends, and writes to
// stdout how many of its silent connections it still has then.
func TestFlooder(t *testing.T) {
	addr := os.Getenv(floodEnv)
	if addr == "" {
		return // it is no test
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _, _ = io.Copy(io.Discard, os.Stdin) }()
	var open [2]atomic.Int64
	var all sync.WaitGroup
	var conns sync.Map
	for i, port := range []string{"6790", "6779"} {
		var connected sync.WaitGroup
		for range floodSilent {
			connected.Add(1)
			all.Go(func() {
				c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr+":"+port)
				if err != nil {
					connected.Done()
					return
				}
				conns.Store(c, true)
				open[i].Add(1)
				connected.Done()
				_, _ = c.Read(make([]byte, 1)) // until the server has enough of it
				open[i].Add(-1)
			})
		}
		connected.Wait()
		for range floodHands {
			all.Go(func() {
				for {
					select {
					case <-ended:
						return
					default:
					}
					c, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}}).DialContext(t.Context(), "tcp", addr+":"+port)
					if err == nil {
						_ = c.Close()
					}
				}
			})
		}
	}
	fmt.Fprintln(os.Stdout, "flooding")
	<-ended
	fmt.Fprintln(os.Stdout, "held", open[0].Load(), open[1].Load())
	conns.Range(func(c, _ any) bool { _ = c.(net.Conn).Close(); return true })
	all.Wait()
}

// TestFlood: who floods the controller's ports with connections and handshakes takes
// nothing from others, and gets a bounded number.
func TestFlood(t *testing.T) {
	t.Parallel()
	l := labtest.Up(t, lab.Config{Hosts: 1})
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd, err := l.Command(t.Context(), lab.Outside, "env", floodEnv+"="+addressOf(t, l, lab.Control).String(), "OVL_BIN_DIR="+os.Getenv("OVL_BIN_DIR"), self, "-test.run=^TestFlooder$")
	if err != nil {
		t.Fatal(err)
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := bufio.NewScanner(stdout)
	for said.Scan() && !strings.Contains(said.Text(), "flooding") {
	}
	// Whoever comes from elsewhere is served, by the API and by etcd.
	for i := range 5 {
		l.Run(t, "h1", "ovlctl", "host", "ls")
		l.Run(t, "h1", "ovlctl", "network", "create", fmt.Sprintf("n%d", i))
	}
	if err := l.Kill(t.Context(), "h1", lab.Agent); err != nil {
		t.Fatal(err)
	}
	if err := l.Start(t.Context(), "h1", lab.Agent); err != nil { // which waits until etcd has let it in
		t.Error(err)
	}
	l.Sandbox(t, "h1", "a", "--network", "n0")
	if err := stdin.Close(); err != nil {
		t.Fatal(err)
	}
	var api, etcd int
	for said.Scan() {
		if _, err := fmt.Sscanf(said.Text(), "held %d %d", &api, &etcd); err == nil {
			break
		}
	}
	_, _ = io.Copy(io.Discard, stdout)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	t.Logf("of %d silent connections the flooder had %d and %d at the end", floodSilent, api, etcd)
	if api > 256 || etcd > 256 {
		t.Errorf("the flooder had %d and %d connections at the end", api, etcd)
	}
}
