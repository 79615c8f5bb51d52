package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
	"github.com/ovlnet/ovl/internal/store"
	"github.com/ovlnet/ovl/internal/store/etcd"
)

// thiefEnv makes this test binary a thief who has a host: TestThief.
const thiefEnv = "OVL_TEST_THIEF"

// dialAs returns the embedded etcd at an address, as it is for who has the certificate in
// a file of the host where this runs.
func dialAs(t *testing.T, addr, file string) *etcd.Store {
	t.Helper()
	pair, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	settings, err := intruder{Pair: pair}.settings()
	if err != nil {
		t.Fatal(err)
	}
	kv, err := etcd.Dial(etcd.Config{Endpoints: []string{"https://" + addr + ":6779"}, TLS: settings, RequestTimeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kv.Close() })
	return kv
}

// TestThief tries with the certificate of the host where it runs what only others
// may do, and writes what it got away with to stdout.
func TestThief(t *testing.T) {
	addr := os.Getenv(thiefEnv)
	if addr == "" {
		return // it is no test
	}
	kv := dialAs(t, addr, "/var/lib/ovl/identity/host.pem")
	raw, err := os.ReadFile("/var/lib/ovl/host-id")
	if err != nil {
		t.Fatal(err)
	}
	me := cluster.HostID(strings.TrimSpace(string(raw)))
	page, err := kv.Range(t.Context(), store.HostsPrefix, store.SessionsPrefix, store.SubnetsPrefix(""), store.EndpointsPrefix(""), store.NetworksPrefix)
	if err != nil {
		t.Fatal(err)
	}
	var crimes []string
	try := func(what string, err error) {
		if err == nil {
			crimes = append(crimes, what)
		}
	}
	for _, r := range page.Records {
		if strings.Contains(r.Key, string(me)) || strings.Contains(string(r.Value), string(me)) {
			continue
		}
		still := []store.Cond{store.Unchanged(r.Key, r.ModRev)}
		_, err := kv.Txn(t.Context(), still, []store.Write{store.Delete(r.Key)})
		try("delete "+r.Key, err)
		_, err = kv.Txn(t.Context(), still, []store.Write{store.Put(r.Key, []byte(strings.ReplaceAll(string(r.Value), "h2", "h1")), 0)})
		try("write "+r.Key, err)
		if l, derr := store.DecodeLease(r); derr == nil {
			l.Host = me
			value, err := store.EncodeLease(l)
			if err != nil {
				t.Fatal(err)
			}
			_, err = kv.Txn(t.Context(), still, []store.Write{store.Put(r.Key, value, 0)})
			try("take "+r.Key, err)
		}
		if r.Lease != 0 {
			_, err := kv.KeepAlive(t.Context(), r.Lease)
			try("keep alive the lease of "+r.Key, err)
			_, err = kv.Txn(t.Context(), nil, []store.Write{store.Put(store.HostKey(me), []byte("{}"), r.Lease)})
			try("write on the lease of "+r.Key, err)
			try("end the lease of "+r.Key, kv.Revoke(t.Context(), r.Lease))
		}
	}
	for _, prefix := range []string{store.Root, store.Root + "tokens/", store.Root + "members/", "/", ""} {
		_, err := kv.Range(t.Context(), prefix)
		try("read "+prefix, err)
	}
	_, err = kv.Txn(t.Context(), nil, []store.Write{store.Put(store.NetworkKey("x"), nil, 0)})
	try("make a network", err)
	out, err := json.Marshal(crimes)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(os.Stdout, "\ntried %d records: %s\n", len(page.Records), out)
}

// TestStolenHost: who has a host has that host alone.
func TestStolenHost(t *testing.T) {
	t.Parallel()
	c := newCourt(t, lab.Config{Hosts: 2})
	c.Run(t, "h1", "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16")
	for _, host := range []string{"h1", "h2"} {
		c.Sandbox(t, host, "web-"+host, "--network", "blue")
	}
	labtest.Until(t, "both endpoints are known", func() error {
		if got := c.Run(t, lab.Control, "ovlctl", "endpoint", "ls", "-o", "name"); strings.Count(got, "web-") != 2 {
			return errors.New(got)
		}
		return nil
	})
	before := c.Run(t, lab.Control, "ovlctl", "subnet", "ls") + c.Run(t, lab.Control, "ovlctl", "endpoint", "ls") + c.Run(t, lab.Control, "ovlctl", "network", "ls")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out := c.Run(t, "h1", "env", thiefEnv+"="+addressOf(t, c.Lab, lab.Control).String(), "OVL_BIN_DIR="+os.Getenv("OVL_BIN_DIR"), self, "-test.run=^TestThief$")
	if !strings.Contains(out, "tried 9 records: null") {
		t.Errorf("a thief got away: %s", out)
	}
	if after := c.Run(t, lab.Control, "ovlctl", "subnet", "ls") + c.Run(t, lab.Control, "ovlctl", "endpoint", "ls") + c.Run(t, lab.Control, "ovlctl", "network", "ls"); after != before {
		t.Errorf("afterwards: %s, before: %s", after, before)
	}
	c.Run(t, lab.Control, "ovlctl", "status")
	// Each kind of what the store refused is recorded, once.
	id := c.Run(t, "h1", "cat", "/var/lib/ovl/host-id")
	labtest.Until(t, "the refusals are events", func() error {
		out := c.Run(t, lab.Control, "ovlctl", "events", "-o", "wide")
		for _, action := range []string{"etcd Txn", "etcd LeaseRevoke"} {
			n := 0
			for line := range strings.Lines(out) {
				if strings.Contains(line, "host "+id) && strings.Contains(line, action) && strings.Contains(line, "PERMISSION_DENIED") {
					n++
				}
			}
			if n != 1 {
				return fmt.Errorf("%d events of %s: %s", n, action, out)
			}
		}
		return nil
	})
}

// TestRemovedHost: it says why it is shut out, keeps forwarding, and comes back by
// joining again, with a new key.
func TestRemovedHost(t *testing.T) {
	t.Parallel()
	l := labtest.Up(t, lab.Config{Hosts: 2})
	l.Run(t, "h1", "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16")
	a, b := l.Sandbox(t, "h2", "a", "--network", "blue"), l.Sandbox(t, "h2", "b", "--network", "blue")
	l.Run(t, "h1", "ovlctl", "host", "rm", "--force", "--yes", "h2")
	labtest.Until(t, "h2 says that it is shut out", func() error {
		if out := l.Do(t, "h2", "ovlctl", "agent", "status").Stdout; !strings.Contains(out, "shuts this host out") {
			return errors.New(out)
		}
		return nil
	})
	complete(t, []labtest.Container{a, b}) // its own containers do not notice
	key := l.Run(t, "h2", "sh", "-c", "grep -A9 PRIVATE /var/lib/ovl/identity/host.pem")
	if err := l.Stop(t.Context(), "h2", lab.Agent); err != nil {
		t.Fatal(err)
	}
	token := l.Run(t, "h1", "ovlctl", "token", "create", "--host", "h2")
	l.Run(t, "h2", "ovl-agent", "join", "--no-start", "--controller", "control", "--token", token)
	if again := l.Run(t, "h2", "sh", "-c", "grep -A9 PRIVATE /var/lib/ovl/identity/host.pem"); again == key {
		t.Error("it has joined again with the key that was thrown out")
	}
	if err := l.Start(t.Context(), "h2", lab.Agent); err != nil {
		t.Fatal(err)
	}
	labtest.Until(t, "h2 is whole again", func() error {
		if r := l.Do(t, "h2", "ovlctl", "agent", "status"); r.Code != 0 {
			return errors.New(r.Stdout)
		}
		return nil
	})
	l.Run(t, "h1", "ovlctl", "host", "inspect", "h2")
}
