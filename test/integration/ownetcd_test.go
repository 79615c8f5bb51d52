package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/identity"
	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
	"github.com/ovlnet/ovl/internal/store"
	"github.com/ovlnet/ovl/internal/store/etcd"
)

// The hosts of the lab on which the members of an etcd run, and where clients find them.
var etcdHosts = map[string]string{"h3": "192.168.77.3", "h4": "192.168.77.4", "h5": "192.168.77.5"}

func etcdURLs() []string {
	var urls []string
	for _, addr := range etcdHosts {
		urls = append(urls, "https://"+addr+":2379")
	}
	slices.Sort(urls)
	return urls
}

// etcdMemberEnv makes this test binary a member of an etcd: TestEtcdMember.
const etcdMemberEnv = "OVL_TEST_ETCD_MEMBER"

// etcdMember is what it is told.
type etcdMember struct{ Name, PKI, Data string }

// TestEtcdMember serves until it is killed. It says on stdout when it does.
func TestEtcdMember(t *testing.T) {
	text := os.Getenv(etcdMemberEnv)
	if text == "" {
		return // it is no test
	}
	var m etcdMember
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	at := func(name, port string) url.URL {
		return url.URL{Scheme: "https", Host: net.JoinHostPort(etcdHosts[name], port)}
	}
	file := func(name string) string { return filepath.Join(m.PKI, name) }
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir, cfg.LogLevel, cfg.UnsafeNoFsync = m.Name, m.Data, "error", true
	cfg.ListenClientUrls = []url.URL{at(m.Name, "2379")}
	cfg.AdvertiseClientUrls, cfg.ListenPeerUrls = cfg.ListenClientUrls, []url.URL{at(m.Name, "2380")}
	cfg.AdvertisePeerUrls = cfg.ListenPeerUrls
	var members []string
	for name := range etcdHosts {
		peer := at(name, "2380")
		members = append(members, name+"="+peer.String())
	}
	cfg.InitialCluster = strings.Join(members, ",")
	cfg.ClientTLSInfo.CertFile, cfg.ClientTLSInfo.KeyFile = file("server.pem"), file("server-key.pem")
	cfg.ClientTLSInfo.TrustedCAFile, cfg.ClientTLSInfo.ClientCertAuth = file("clients.pem"), true
	cfg.PeerTLSInfo.CertFile, cfg.PeerTLSInfo.KeyFile = file("server.pem"), file("server-key.pem")
	cfg.PeerTLSInfo.TrustedCAFile, cfg.PeerTLSInfo.ClientCertAuth = file("etcd-ca.pem"), true
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	<-e.Server.ReadyNotify()
	fmt.Println("\nserving")
	t.Fatal(<-e.Err())
}

// pki is an etcd's own CA, in files, and what the cluster's has issued it for.
type pki struct {
	t    *testing.T
	dir  string
	ca   *x509.Certificate
	key  *ecdsa.PrivateKey
	next int64
}

func newPKI(t *testing.T) *pki {
	t.Helper()

	p := &pki{t: t, dir: t.TempDir()}
	template := &x509.Certificate{Subject: pkix.Name{CommonName: "an organisation's etcd"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	p.ca, p.key = p.issue("etcd-ca", template)
	server := &x509.Certificate{Subject: pkix.Name{CommonName: "etcd"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	for _, addr := range etcdHosts {
		server.IPAddresses = append(server.IPAddresses, net.ParseIP(addr))
	}
	p.issue("server", server)
	p.issue("root", &x509.Certificate{Subject: pkix.Name{CommonName: "root"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	cluster, err := identity.NewAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := cluster.Encode()
	if err != nil {
		t.Fatal(err)
	}
	p.write("ca.pem", cert)
	p.write("ca-key.pem", key)
	own, err := os.ReadFile(p.file("etcd-ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	p.write("clients.pem", slices.Concat(cert, own))
	return p
}

func (p *pki) file(name string) string { return filepath.Join(p.dir, name) }

func (p *pki) write(name string, data []byte) {
	p.t.Helper()
	if err := os.WriteFile(p.file(name), data, 0o600); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pki) issue(name string, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	p.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		p.t.Fatal(err)
	}
	p.next++
	template.SerialNumber = big.NewInt(p.next)
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Minute), time.Now().Add(time.Hour)
	parent, signer := p.ca, p.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		p.t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		p.t.Fatal(err)
	}
	data, err := identity.EncodeKey(key)
	if err != nil {
		p.t.Fatal(err)
	}
	p.write(name+".pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	p.write(name+"-key.pem", data)
	return c, key
}

// outside is a lab whose cluster lives in an etcd of three members.
type outside struct {
	*labtest.Lab
	t       *testing.T
	pki     *pki
	members map[string]*labtest.Daemon
}

// again returns the command line by which this test binary runs one of its tests, told
// what to do.
func again(t *testing.T, test, env string, what any) []string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(what)
	if err != nil {
		t.Fatal(err)
	}
	return []string{"env", env + "=" + string(text), "OVL_BIN_DIR=" + os.Getenv("OVL_BIN_DIR"), self, "-test.run=^" + test + "$"}
}

// says waits until a program says that line.
func says(t *testing.T, d *labtest.Daemon, line string) {
	t.Helper()
	labtest.Until(t, d.Name+" says "+line, func() error {
		select {
		case <-d.Ended():
			t.Fatalf("%s ended, saying: %s", d.Name, d.Log(t))
		default:
		}
		if !strings.Contains(d.Log(t), line) {
			return errors.New("not yet")
		}
		return nil
	})
}

// serve starts members of the etcd, those that have run before with what they had, and
// returns when they serve.
func (o *outside) serve(hosts ...string) {
	o.t.Helper()
	for _, h := range hosts {
		argv := again(o.t, "TestEtcdMember", etcdMemberEnv, etcdMember{Name: h, PKI: o.pki.dir, Data: o.pki.file("data-" + h)})
		o.members[h] = o.StartDaemon(o.t, h, "etcd", argv...)
	}
	for _, h := range hosts {
		says(o.t, o.members[h], "serving")
	}
}

// kill ends members as a power cut would.
func (o *outside) kill(hosts ...string) {
	o.t.Helper()
	for _, h := range hosts {
		o.members[h].Kill(o.t)
	}
}

// etcdRootEnv makes this test binary the operator of the etcd: TestEtcdRoot.
const etcdRootEnv = "OVL_TEST_ETCD_ROOT"

// TestEtcdRoot waits for the controllers' users, then has etcd ask who calls.
func TestEtcdRoot(t *testing.T) {
	dir := os.Getenv(etcdRootEnv)
	if dir == "" {
		return // it is no test
	}
	dir = strings.Trim(dir, `"`)
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "root.pem"), filepath.Join(dir, "root-key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	data, err := os.ReadFile(filepath.Join(dir, "etcd-ca.pem"))
	if err != nil || !roots.AppendCertsFromPEM(data) {
		t.Fatal(err)
	}
	c, err := clientv3.New(clientv3.Config{Endpoints: etcdURLs(), DialTimeout: 10 * time.Second, TLS: &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	labtest.Until(t, "both controllers have users", func() error {
		users, err := c.UserList(t.Context())
		if err == nil && (!slices.Contains(users.Users, "controller-control") || !slices.Contains(users.Users, "controller-h6")) {
			err = fmt.Errorf("users %v", users.Users)
		}
		return err
	})
	if _, err := c.UserAddWithOptions(t.Context(), "root", "", &clientv3.UserAddOptions{NoPassword: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.UserGrantRole(t.Context(), "root", "root"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.AuthEnable(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// newOutside returns a cluster of h1, h2 and h6 with two controllers, whose etcd asks
// who calls.
func newOutside(t *testing.T) *outside {
	t.Helper()
	p := newPKI(t)
	flags := []string{"--etcd-ca", p.file("etcd-ca.pem"), "--ca-cert", p.file("ca.pem"), "--ca-key", p.file("ca-key.pem")}
	o := &outside{t: t, pki: p, members: map[string]*labtest.Daemon{}}
	o.Lab = labtest.Up(t, lab.Config{Hosts: 6, Bare: true, Etcd: etcdURLs(), ControllerArgs: flags})
	o.serve("h3", "h4", "h5")
	if err := o.Start(t.Context(), lab.Control, lab.Controller); err != nil {
		t.Fatal(err)
	}
	second := o.StartDaemon(t, "h6", "ovl-controller", append([]string{
		"ovl-controller", "--listen", "192.168.77.6:6790", "--etcd", strings.Join(etcdURLs(), ","), "--data-dir", "/var/lib/ovl/second",
	}, flags...)...)
	says(t, second, "ovl-controller is up")
	if status := o.Do(t, "h1", "ovlctl", "status").Stdout; !strings.Contains(status, "does not ask who writes") {
		t.Errorf("no warning that etcd lets everybody write: %s", status)
	}
	o.Run(t, "h3", again(t, "TestEtcdRoot", etcdRootEnv, p.dir)...)
	if status := o.Do(t, "h1", "ovlctl", "status").Stdout; strings.Contains(status, "does not ask who writes") {
		t.Errorf("still a warning: %s", status)
	}
	for _, h := range []string{"h1", "h2", "h6"} {
		if err := o.Start(t.Context(), h, lab.Agent); err != nil {
			t.Fatal(err)
		}
	}
	return o
}

// TestOwnEtcd: a cluster in an etcd of three members, with a CA of its own, survives
// what happens to that.
func TestOwnEtcd(t *testing.T) {
	t.Parallel()
	o := newOutside(t)
	o.Run(t, "h1", "ovlctl", "--controller", "192.168.77.6:6790", "network", "create", "blue", "--subnet", "10.64.0.0/16")
	a, b := o.Sandbox(t, "h1", "a", "--network", "blue"), o.Sandbox(t, "h2", "b", "--network", "blue")
	complete(t, []labtest.Container{a, b})
	ping := a.StartPing(t, b.Addr(t))

	o.kill("h3")
	c := labtest.Container{Lab: o.Lab, Host: "h6", Name: "c"}
	labtest.Until(t, "a host takes a subnet; while etcd chooses a leader it is told to try again", func() error {
		if r := o.Do(t, "h6", "ovlctl", "run", "-d", "--name", "c", "--network", "blue"); r.Code != 0 {
			return errors.New(r.Stderr)
		}
		return nil
	})
	complete(t, []labtest.Container{a, b, c})
	o.kill("h4")
	labtest.Until(t, "h1 says that etcd is away", func() error {
		if out := o.Do(t, "h1", "ovlctl", "agent", "status").Stdout; !strings.Contains(out, "away for") {
			return errors.New(out)
		}
		return nil
	})
	complete(t, []labtest.Container{a, b, c})
	o.serve("h3", "h4")
	labtest.Until(t, "all is well", func() error {
		for _, h := range []string{"h1", "h2", "h6"} {
			if r := o.Do(t, h, "ovlctl", "agent", "status"); r.Code != 0 {
				return errors.New(r.Stdout)
			}
		}
		return nil
	})
	d := o.Sandbox(t, "h2", "d", "--network", "blue")
	complete(t, []labtest.Container{a, b, c, d})
	ping.NoneLost(t)
}

// burglarEnv makes this test binary a thief who has a host, and an etcd that looks at
// keys alone before him: TestBurglar.
const burglarEnv = "OVL_TEST_BURGLAR"

// burglary is what he is told: rounds of it, the files of the etcd's CA, or whether he
// is out.
type burglary struct {
	CA     string
	Rounds int
	Out    bool
}

// TestBurglar does what he can with the certificate of the host where it runs, and
// says on stdout what he could that he should not.
func TestBurglar(t *testing.T) {
	text := os.Getenv(burglarEnv)
	if text == "" {
		return // it is no test
	}
	var told burglary
	if err := json.Unmarshal([]byte(text), &told); err != nil {
		t.Fatal(err)
	}
	pair, err := identity.ReadPair("/var/lib/ovl/identity/host.pem", "")
	if err != nil {
		t.Fatal(err)
	}
	who, err := pair.Who()
	if err != nil {
		t.Fatal(err)
	}
	me, _ := who.HostID()
	settings, err := identity.Foreign(told.CA, "", "", identity.NewCredential(pair, nil, time.Now))
	if err != nil {
		t.Fatal(err)
	}
	kv, err := etcd.Dial(etcd.Config{Endpoints: etcdURLs(), TLS: settings})
	if err != nil {
		t.Fatal(err)
	}
	defer kv.Close()
	thief := burglar{t: t, kv: kv, key: pair, me: me}
	if told.Out {
		_, err := kv.Range(t.Context(), store.HostsPrefix)
		thief.crime("read", err)
		thief.put(store.HostKey(me), []byte("{}"), 0)
		thief.put(store.SubnetKey("blue", thief.subnet("10.64.99.0/24")), []byte("{}"), 0)
	}
	for range told.Rounds {
		thief.round()
	}
	out, err := json.Marshal(slices.Compact(thief.crimes))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("\nguilty of %s, harmless %d\n", out, thief.harmless)
}

type burglar struct {
	t        *testing.T
	kv       store.KV
	key      identity.Pair
	me       cluster.HostID
	crimes   []string // that should have been refused
	harmless int      // that were not, and cost nobody anything
}

func (b *burglar) crime(what string, err error) {
	if err == nil {
		b.crimes = append(b.crimes, what)
	} else if !errors.Is(err, store.ErrRefused) {
		b.t.Fatalf("%s: %v", what, err)
	}
}

func (b *burglar) put(key string, value []byte, id store.LeaseID) {
	_, err := b.kv.Txn(b.t.Context(), nil, []store.Write{store.Put(key, value, id)})
	b.crime("put "+key, err)
}

// may does what etcd cannot refuse.
func (b *burglar) may(what string, w store.Write) {
	if _, err := b.kv.Txn(b.t.Context(), nil, []store.Write{w}); err != nil {
		b.t.Fatalf("%s: %v", what, err)
	}
	b.harmless++
}

func (b *burglar) subnet(s string) (p netip.Prefix) {
	if err := p.UnmarshalText([]byte(s)); err != nil {
		b.t.Fatal(err)
	}
	return p
}

// round does it all once, to all that is another's.
func (b *burglar) round() {
	ctx := b.t.Context()
	page, err := b.kv.Range(ctx, store.HostsPrefix, store.SessionsPrefix, store.SubnetsPrefix(""), store.EndpointsPrefix(""), store.NetworksPrefix, store.CertificatesPrefix)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, prefix := range []string{store.Root, store.Root + "tokens/", store.Root + "members/", "/"} {
		_, err := b.kv.Range(ctx, prefix)
		b.crime("read "+prefix, err)
	}
	for _, r := range page.Records {
		if strings.Contains(r.Key, string(b.me)) || store.Claimant(r) == b.me {
			continue
		}
		if r.Lease != 0 {
			b.crime("end the lease of "+r.Key, b.kv.Revoke(ctx, r.Lease))
			b.put(store.SubnetKey("blue", b.subnet("10.64.98.0/24")), r.Value, r.Lease)
		}
		shared := slices.ContainsFunc(store.Shared(), func(p string) bool { return strings.HasPrefix(r.Key, p) })
		if !shared {
			b.put(r.Key, r.Value, 0)
			_, err := b.kv.Txn(ctx, nil, []store.Write{store.Delete(r.Key)})
			b.crime("delete "+r.Key, err)
			continue
		}
		b.may("junk", store.Put(r.Key, []byte("junk"), 0))
		b.may("an old record, without its lease", store.Put(r.Key, r.Value, 0))
		if l, err := store.DecodeLease(r); err == nil {
			for after, of := range map[int64]cluster.HostID{1: b.me, 2: l.Host, page.Revision: b.me, page.Revision + 1: l.Host} {
				l.Host = of
				value, err := store.EncodeClaim(l, after)
				if err != nil {
					b.t.Fatal(err)
				}
				b.may("claim, unsigned", store.Put(r.Key, value, 0))
				if value, err = identity.Seal(b.key.Key, identity.Place{Key: r.Key}, value); err != nil {
					b.t.Fatal(err)
				}
				b.may("claim, with his signature", store.Put(r.Key, value, 0))
			}
		}
		b.may("delete", store.Delete(r.Key))
	}
}

// TestStolenHostOwnEtcd: an etcd that knows who calls keeps a thief from what is not
// his where keys name the host first; where they do not, signatures do: nobody notices
// him but in the status.
func TestStolenHostOwnEtcd(t *testing.T) {
	t.Parallel()
	o := newOutside(t)
	o.Run(t, "h1", "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16")
	var all []labtest.Container
	for _, h := range []string{"h1", "h2", "h6"} {
		all = append(all, o.Sandbox(t, h, "c-"+h, "--network", "blue"))
	}
	complete(t, all)
	facts := func() string {
		return o.Run(t, lab.Control, "ovlctl", "subnet", "ls") + o.Run(t, lab.Control, "ovlctl", "endpoint", "ls") + o.Run(t, lab.Control, "ovlctl", "network", "ls")
	}
	before := facts()
	// A host defends a subnet once it has held it for five seconds.
	o.Run(t, "h2", "ip", "netns", "exec", "c-h2", "ping", "-q", "-c", "56", "-i", "0.1", all[2].Addr(t).String())
	pings := []*labtest.Ping{all[1].StartPing(t, all[2].Addr(t)), all[2].StartPing(t, all[1].Addr(t)), all[0].StartPing(t, all[1].Addr(t))}
	said := o.Run(t, "h1", again(t, "TestBurglar", burglarEnv, burglary{CA: o.pki.file("etcd-ca.pem"), Rounds: 60})...)
	if !strings.Contains(said, "guilty of null") {
		t.Errorf("etcd let him: %s", said)
	}
	t.Log(strings.TrimSpace(said))
	labtest.Until(t, "all is as it was", func() error {
		if after := facts(); after != before {
			return fmt.Errorf("%s, before: %s", after, before)
		}
		return nil
	})
	for _, p := range pings {
		p.NoneLost(t)
	}
	labtest.Until(t, "it is told", func() error {
		if out := o.Do(t, lab.Control, "ovlctl", "status").Stdout; !strings.Contains(out, "somebody else altered or deleted records of this host") {
			return errors.New(out)
		}
		return nil
	})
	if out := o.Do(t, "h2", "ovlctl", "agent", "status").Stdout; !strings.Contains(out, "somebody else") {
		t.Errorf("h2 does not tell: %s", out)
	}

	o.Run(t, "h2", "ovlctl", "host", "rm", "--force", "--yes", "h1")
	said = o.Run(t, "h1", again(t, "TestBurglar", burglarEnv, burglary{CA: o.pki.file("etcd-ca.pem"), Out: true})...)
	if !strings.Contains(said, "guilty of null") {
		t.Errorf("after his host was removed: %s", said)
	}
	complete(t, all[1:])
}
