package integration

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/ovlnet/ovl/internal/identity"
	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
	"github.com/ovlnet/ovl/internal/store"
	"github.com/ovlnet/ovl/internal/store/etcd"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// intruder is one who knocks at the controller and at its etcd, with what he has.
type intruder struct {
	Name  string
	Pair  []byte // PEM; none: no certificate
	Roots []byte // PEM of whom he trusts to be a controller
	Plain bool   // speaks no TLS

	api, etcd string // what he must be told
}

// heard is what he was told; empty: he got in.
type heard struct{ Name, API, Etcd string }

// intrudersEnv makes this test binary the intruders: TestIntruders.
const intrudersEnv = "OVL_TEST_INTRUDERS"

// TestIntruders knocks from where it is run, and writes what was said to stdout.
func TestIntruders(t *testing.T) {
	var all []intruder
	if os.Getenv(intrudersEnv) == "" {
		return // it is no test
	}
	data, err := os.ReadFile(os.Getenv(intrudersEnv))
	if err == nil {
		err = json.Unmarshal(data, &all)
	}
	if err != nil {
		t.Fatal(err)
	}
	told := make([]heard, len(all))
	var g errgroup.Group
	for i, in := range all {
		g.Go(func() error {
			told[i] = heard{in.Name, said(in.callAPI(t.Context(), os.Args[len(os.Args)-1]+":6790")), said(in.readEtcd(t.Context(), os.Args[len(os.Args)-1]+":6779"))}
			return nil
		})
	}
	_ = g.Wait() // none fails
	out, err := json.Marshal(told)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(os.Stdout, "\nheard %s\n", out)
}

func said(err error) string {
	if err == nil {
		return ""
	}
	return status.Convert(err).Message() + " " + err.Error()
}

// settings are those of a client that looks at nothing that the server shows.
func (in intruder) settings() (*tls.Config, error) {
	if in.Plain {
		return nil, nil
	}
	c := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}
	if in.Pair == nil {
		return c, nil
	}
	p, err := identity.ParsePair(in.Pair)
	c.Certificates = []tls.Certificate{{Certificate: identity.DER(p.Chain), PrivateKey: p.Key}}
	return c, err
}

func (in intruder) callAPI(ctx context.Context, addr string) error {
	settings, err := in.settings()
	if err != nil {
		return err
	}
	with := insecure.NewCredentials()
	if settings != nil {
		with = credentials.NewTLS(settings)
	}
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(with))
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = ovlv1.NewNetworkServiceClient(conn).ListNetworks(ctx, &ovlv1.ListNetworksRequest{})
	return err
}

func (in intruder) readEtcd(ctx context.Context, addr string) error {
	settings, err := in.settings()
	if err != nil {
		return err
	}
	url := "http://" + addr
	if !in.Plain {
		url = "https://" + addr
		if err := shake(ctx, addr, settings); err != nil {
			return err
		}
	}
	kv, err := etcd.Dial(etcd.Config{Endpoints: []string{url}, TLS: settings, RequestTimeout: 3 * time.Second})
	if err != nil {
		return err
	}
	defer kv.Close()
	_, err = kv.Range(ctx, store.HostsPrefix)
	return err
}

// shake returns how a server of HTTP/2 ends a handshake: if it likes what it was
// shown it speaks first, and else TLS has its say, which gRPC does not hand on
// each time.
func shake(ctx context.Context, addr string, settings *tls.Config) error {
	conn, err := (&tls.Dialer{Config: settings}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Read(make([]byte, 1))
	return err
}

// court is a lab with the CA of its cluster in the hands of the test, which
// issues what no controller would.
type court struct {
	*labtest.Lab
	t  *testing.T
	ca *identity.Authority
}

func newCourt(t *testing.T, c lab.Config) *court {
	t.Helper()
	l := labtest.Up(t, c)
	cert := l.Run(t, lab.Control, "cat", "/var/lib/ovl/identity/ca.pem")
	key := l.Run(t, lab.Control, "cat", "/var/lib/ovl/identity/ca-key.pem")
	ca, err := identity.ParseAuthority([]byte(cert), []byte(key), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return &court{Lab: l, t: t, ca: ca}
}

// pair returns a certificate of that CA with its key, in PEM.
func (c *court) pair(ca *identity.Authority, role identity.Role, name string, issued time.Time, life time.Duration) []byte {
	c.t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		c.t.Fatal(err)
	}
	chain, err := ca.Issue(identity.Who{Role: role, Name: name}, key.Public(), identity.Names{}, issued, life)
	if err != nil {
		c.t.Fatal(err)
	}
	data, err := identity.EncodePair(identity.Pair{Chain: chain, Key: key})
	if err != nil {
		c.t.Fatal(err)
	}
	return data
}

// knock lets the intruders knock from outside and compares what they are told.
func (c *court) knock(all []intruder) {
	c.t.Helper()
	c.knockFrom(lab.Outside, all)
}

// knockFrom does so from a host, or from what the command within leads into.
func (c *court) knockFrom(host string, all []intruder, within ...string) {
	c.t.Helper()
	data, err := json.Marshal(all)
	if err != nil {
		c.t.Fatal(err)
	}
	file, err := os.CreateTemp("", "ovl")
	if err != nil {
		c.t.Fatal(err)
	}
	defer os.Remove(file.Name())
	if _, err := file.Write(data); err != nil {
		c.t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		c.t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		c.t.Fatal(err)
	}
	out := c.Run(c.t, host, append(within, "env", intrudersEnv+"="+file.Name(), "OVL_BIN_DIR="+os.Getenv("OVL_BIN_DIR"),
		self, "-test.run=^TestIntruders$", addressOf(c.t, c.Lab, lab.Control).String())...)
	_, out, _ = strings.Cut(out, "heard ")
	out, _, _ = strings.Cut(out, "\n")
	var told []heard
	if err := json.Unmarshal([]byte(out), &told); err != nil || len(told) != len(all) {
		c.t.Fatalf("%v: %s", err, out)
	}
	for i, in := range all {
		told[i].compare(c.t, "controller", told[i].API, in.api)
		told[i].compare(c.t, "etcd", told[i].Etcd, in.etcd)
	}
}

const letIn = "let in"

func (h heard) compare(t *testing.T, port, got, want string) {
	t.Helper()
	if want == letIn {
		want = ""
	}
	if (got == "") != (want == "") || !strings.Contains(got, want) {
		t.Errorf("%s: the %s says %q, want %q", h.Name, port, got, want)
	}
}

// TestNobodyGetsIn: whoever knocks without a certificate that counts now is told
// why it does not, and gets nothing.
func TestNobodyGetsIn(t *testing.T) {
	t.Parallel()
	c := newCourt(t, lab.Config{Hosts: 2})
	now := time.Now()
	other, err := identity.NewAuthority(now)
	if err != nil {
		t.Fatal(err)
	}
	stolen := c.Run(t, "h2", "cat", "/var/lib/ovl/identity/host.pem")
	id := c.Run(t, "h2", "cat", "/var/lib/ovl/host-id")
	c.knock([]intruder{
		{Name: "h2 itself", Pair: []byte(stolen), api: "host " + id + " has the wrong role", etcd: letIn},
	})
	c.Run(t, "h1", "ovlctl", "host", "rm", "--force", "--yes", "h2")
	const nobody = "0123456789abcdef0123456789abcdef"
	c.knock([]intruder{
		{Name: "plain text", Plain: true, api: "error reading server preface", etcd: "unreachable"},
		{Name: "no certificate", api: "no certificate was shown", etcd: "certificate required"},
		{Name: "expired", Pair: c.pair(c.ca, identity.Admin, "local", now.Add(-time.Hour), time.Minute), api: "certificate of admin local expired at", etcd: "expired"},
		{Name: "not yet valid", Pair: c.pair(c.ca, identity.Admin, "local", now.Add(time.Hour), time.Hour), api: "compare the clocks", etcd: "expired"},
		{Name: "another CA", Pair: c.pair(other, identity.Admin, "local", now, time.Hour), api: "is of another cluster's CA", etcd: "unknown certificate authority"},
		{Name: "a viewer", Pair: c.pair(c.ca, identity.Viewer, "ann", now, time.Hour), api: "viewer ann is no member", etcd: "viewer ann has no business in etcd"},
		{Name: "an admin in etcd", Pair: c.pair(c.ca, identity.Admin, "local", now, time.Hour), api: letIn, etcd: "admin local has no business in etcd"},
		{Name: "a host that never joined", Pair: c.pair(c.ca, identity.Host, nobody, now, time.Hour), api: "host " + nobody + " is no member", etcd: "host " + nobody + " is no member"},
		{Name: "a host that was removed", Pair: []byte(stolen), api: "is no member of this cluster any more", etcd: "is no member of this cluster any more"},
		{Name: "another key of a member", Pair: c.pair(c.ca, identity.Host, c.Run(t, "h1", "cat", "/var/lib/ovl/host-id"), now, time.Hour), api: "another key", etcd: "another key"},
	})
	labtest.Until(t, "what etcd refused in a handshake is an event", func() error {
		if out := c.Run(t, lab.Control, "ovlctl", "events"); !strings.Contains(out, "etcd TLS") || !strings.Contains(out, "etcd Txn") {
			return errors.New(out)
		}
		return nil
	})
}

// TestOpenPorts: what listens on a host's addresses is the two ports that ask for
// certificates, and on members nothing.
func TestOpenPorts(t *testing.T) {
	t.Parallel()
	l := labtest.Up(t, lab.Config{Hosts: 1})
	for host, want := range map[string]string{lab.Control: ":6779 :6790", "h1": ""} {
		var open []string
		for line := range strings.Lines(l.Run(t, host, "ss", "-Hltn")) {
			f := strings.Fields(line)
			at, err := netip.ParseAddrPort(f[3])
			if err != nil {
				t.Fatalf("%s: %q: %v", host, line, err)
			}
			if !at.Addr().IsLoopback() {
				open = append(open, fmt.Sprintf(":%d", at.Port()))
			}
		}
		if got := strings.Join(slices.Sorted(slices.Values(open)), " "); got != want {
			t.Errorf("%s listens at %q, want %q", host, got, want)
		}
	}
}

// TestJoinRefused: a token that does not serve lets nobody in, and says why.
func TestJoinRefused(t *testing.T) {
	t.Parallel()
	l := labtest.Up(t, lab.Config{Hosts: 2, Idle: true})
	join := func(host, token string) labtest.Result {
		return l.Do(t, host, "ovl-agent", "join", "--no-start", "--controller", "control", "--name", host, "--token", token)
	}
	create := func(args ...string) string {
		return l.Run(t, "h1", append([]string{"ovlctl", "token", "create"}, args...)...)
	}
	good, err := identity.ParseToken(create())
	if err != nil {
		t.Fatal(err)
	}
	foreign := good
	foreign.CA[0] ^= 1
	refused(t, join("h1", foreign.String()), failed, "another cluster, or somebody in between")
	refused(t, join("h1", "ovl1-nonsense"), usage, "ovlctl token create")
	refused(t, join("h1", create("--host", "h2")), failed, "for host h2 alone")
	withdrawn, err := identity.ParseToken(create())
	if err != nil {
		t.Fatal(err)
	}
	l.Run(t, "h1", "ovlctl", "token", "revoke", withdrawn.ID)
	refused(t, join("h1", withdrawn.String()), failed, "no such token")
	if r := l.Do(t, "h1", "ovl-agent"); r.Code == 0 || !strings.Contains(r.Stderr, "has not joined") {
		t.Errorf("an agent that has not joined: %+v", r)
	}
	if r := join("h1", good.String()); r.Code != 0 {
		t.Fatalf("a good token: %+v", r)
	}
	if r := join("h1", good.String()); r.Code != 0 {
		t.Errorf("a host that has joined: %+v", r)
	}
	refused(t, join("h2", good.String()), failed, "has been used 1 times")
	if got := l.Run(t, "h1", "stat", "-c", "%a", "/var/lib/ovl/identity", "/var/lib/ovl/identity/host.pem"); got != "700\n600" {
		t.Errorf("modes %q", got)
	}
	if err := l.Start(t.Context(), "h1", lab.Agent); err != nil {
		t.Fatal(err)
	}
}

// TestPeople: a person logs in with a token, does what the role allows, and is
// out when removed.
func TestPeople(t *testing.T) {
	t.Parallel()
	l := labtest.Up(t, lab.Config{Hosts: 1, Idle: true})
	token := l.Run(t, "h1", "ovlctl", "token", "create", "--role", "viewer", "--user", "ann")
	ann := person(t, l, "ann")
	refused(t, ann("network", "ls"), usage, "nothing says who you are")
	if r := ann("login", "--token", token); r.Code != 0 {
		t.Fatalf("login: %+v", r)
	}
	if r := ann("network", "ls"); r.Code != 0 {
		t.Errorf("a viewer reads: %+v", r)
	}
	refused(t, ann("network", "create", "blue"), failed, "ask for admin or operator")
	refused(t, ann("token", "create"), failed, "ask for admin")
	refused(t, ann("login", "--token", token), failed, "has been used 1 times")
	// With another token ann may come again: her key vouches for the next one. Who has
	// not got that key is not ann.
	another := func() string {
		return l.Run(t, "h1", "ovlctl", "token", "create", "--role", "viewer", "--user", "ann")
	}
	refused(t, person(t, l, "eve")("login", "--token", another()), conflict, "ovlctl member rm viewer ann")
	if r := ann("login", "--token", another()); r.Code != 0 {
		t.Errorf("log in again: %+v", r)
	}
	if r := ann("whoami"); r.Code != 0 || !strings.Contains(r.Stdout, "viewer") {
		t.Errorf("whoami: %+v", r)
	}
	l.Run(t, "h1", "ovlctl", "member", "rm", "--yes", "viewer", "ann")
	refused(t, ann("network", "ls"), failed, "no member")
}

// TestRenewalUnderTraffic: certificates that live for seconds are renewed again
// and again by hosts and controller; no packet and no connection is lost.
func TestRenewalUnderTraffic(t *testing.T) {
	t.Parallel()
	l := labtest.Up(t, lab.Config{Hosts: 2, ControllerArgs: []string{"--cert-lifetime", "15s"}})
	const stale = "/run/stale.pem" // nobody renews a copy
	l.Run(t, "h2", "cp", "/etc/ovl/admin.pem", stale)
	ann := person(t, l, "ann")
	if r := ann("login", "--token", l.Run(t, "h1", "ovlctl", "token", "create", "--role", "viewer", "--user", "ann")); r.Code != 0 {
		t.Fatalf("login: %+v", r)
	}
	l.Run(t, lab.Control, "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16")
	a, b := l.Sandbox(t, "h1", "a", "--network", "blue"), l.Sandbox(t, "h2", "b", "--network", "blue")
	complete(t, []labtest.Container{a, b})
	flow := a.StartPing(t, b.Addr(t))
	for _, x := range []struct{ host, log, says string }{
		{"h1", "agent", "renewed the certificate"},
		{"h2", "agent", "renewed the certificate"},
		{lab.Control, "controller", "renewed the controller's certificates"},
	} {
		labtest.Until(t, x.host+" has renewed twice", func() error {
			// Ann's certificate is renewed at use, by one of those that run at once.
			const six = "for i in 1 2 3 4 5 6; do ovlctl network ls >/dev/null & done; wait"
			if r := l.Do(t, lab.Outside, "env", "-u", "OVL_CA", "-u", "OVL_CERT", "HOME=/run/ann", "sh", "-c", six); r.Stderr != "" {
				t.Fatalf("ann: %+v", r)
			}
			log := l.Run(t, x.host, "cat", "/var/log/ovl/"+x.log+".log")
			if n := strings.Count(log, x.says); n < 2 {
				return fmt.Errorf("%d times", n)
			}
			if strings.Contains(log, "connected=false") {
				t.Fatalf("%s lost its connection:\n%s", x.host, log)
			}
			return nil
		})
	}
	if answered, lost := flow.Stop(t); len(lost) > 0 {
		t.Errorf("%d pings answered, lost: %v", answered, lost)
	}
	// The first certificates have long expired: who connects now shows a new one.
	if err := errors.Join(l.Kill(t.Context(), "h1", lab.Agent), l.Start(t.Context(), "h1", lab.Agent)); err != nil {
		t.Fatal(err)
	}
	l.Run(t, lab.Control, "ovlctl", "host", "inspect", "h1")
	refused(t, l.Do(t, "h2", "ovlctl", "--cert", stale, "host", "ls"), failed, "certificate of admin local expired at")
}
