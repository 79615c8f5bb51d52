package integration

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// reply is what dig says of an answer.
type reply struct {
	status string // NOERROR, NXDOMAIN …; empty: nobody answered
	data   []string
}

func (r reply) String() string { return strings.TrimSpace(r.status + " " + strings.Join(r.data, " ")) }

var statusOf = regexp.MustCompile(`status: (\w+)`)

// dig asks from within a container, as its resolv.conf says.
func dig(t *testing.T, c labtest.Container, args ...string) reply {
	t.Helper()
	out := c.Do(t, append([]string{"dig", "+noall", "+comments", "+answer", "+tries=1", "+time=3"}, args...)...).Stdout
	var r reply
	if m := statusOf.FindStringSubmatch(out); m != nil {
		r.status = m[1]
	}
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) >= 5 && !strings.HasPrefix(line, ";") {
			r.data = append(r.data, strings.Join(f[4:], " "))
		}
	}
	return r
}

// digs wants an answer from each of several questions.
func digs(t *testing.T, c labtest.Container, want map[string]string) {
	t.Helper()
	for question, answer := range want {
		if got := dig(t, c, strings.Fields(question)...).String(); got != answer {
			t.Errorf("%s: dig %s: %s, want %s", c, question, got, answer)
		}
	}
}

// knows waits until a container gets that answer to a question for dig, and returns how long that
// took.
func knows(t *testing.T, c labtest.Container, question, answer string) time.Duration {
	t.Helper()
	return labtest.Until(t, fmt.Sprintf("%s knows %s as %s", c, question, answer), func() error {
		if got := dig(t, c, strings.Fields(question)...).String(); got != answer {
			return fmt.Errorf("it is %s", got)
		}
		return nil
	})
}

func TestNames(t *testing.T) {
	t.Parallel()
	l := labtest.Up(t, lab.Config{Hosts: 2})
	l.Run(t, "h1", "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16", "--subnet", "fd64::/48")
	l.Run(t, "h1", "ovlctl", "network", "create", "red", "--subnet", "10.65.0.0/16", "--dns-domain", "lab.example")
	web := l.Sandbox(t, "h1", "web", "--network", "blue")
	began := time.Now()
	db := l.Sandbox(t, "h2", "db", "--network", "blue", "--alias", "data")
	started := time.Since(began)
	four, six := db.Addrs(t, "eth0")[0].String(), db.Addrs(t, "eth0")[1].String()
	t.Logf("run took %v; known on the other host at most %v later", started, knows(t, web, "db.blue", "NOERROR "+four))
	near := l.Sandbox(t, "h1", "near", "--network", "blue", "--alias", "data")
	nearFour := near.Addrs(t, "eth0")[0].String()
	far := l.Sandbox(t, "h2", "far", "--network", "red")
	knows(t, db, "near.blue", "NOERROR "+nearFour)

	t.Run("as programs look them up", func(t *testing.T) {
		for _, name := range []string{"db", "data", "db.blue", "db.blue.ovl.internal", "DB"} {
			web.Run(t, "ping", "-c1", "-W2", name)
			web.Run(t, "getent", "hosts", name)
		}
		l.Run(t, "h1", "ip", "netns", "exec", "web", "getent", "hosts", "db")
		db.Run(t, "ping", "-c1", "-W2", "web")
		if out := web.Run(t, "getent", "hosts", four); !strings.Contains(out, "db.blue.ovl.internal") {
			t.Errorf("%s is called %s", four, out)
		}
		if r := web.Do(t, "getent", "hosts", "nope"); r.Code != 2 {
			t.Errorf("getent hosts nope: %+v, want code 2", r)
		}
	})
	t.Run("each kind of answer", func(t *testing.T) {
		for _, transport := range []string{"", "+tcp ", "+noedns "} {
			digs(t, web, map[string]string{
				transport + "db.blue.ovl.internal":      "NOERROR " + four,
				transport + "db.blue.ovl.internal AAAA": "NOERROR " + six,
				transport + "db.blue.ovl.internal MX":   "NOERROR",
				transport + "nope.blue.ovl.internal":    "NXDOMAIN",
				transport + "nope.blue":                 "NXDOMAIN",
				transport + "nope":                      "NXDOMAIN",
				transport + "-x " + four:                "NOERROR db.blue.ovl.internal.",
				transport + "-x " + six:                 "NOERROR db.blue.ovl.internal.",
				transport + "-x 10.64.255.254":          "NXDOMAIN",
				transport + "db.blue CH TXT":            "REFUSED",
			})
		}
		digs(t, far, map[string]string{
			"far.red.lab.example":      "NOERROR " + far.Addr(t).String(),
			"far.red.lab.example AAAA": "NOERROR",
		})
	})
	t.Run("several with one alias take turns", func(t *testing.T) {
		want := []string{four, nearFour}
		slices.Sort(want)
		first := map[string]bool{}
		for range 2 {
			got := dig(t, web, "data.blue").data
			first[got[0]] = true
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Fatalf("data is %v, want %v", got, want)
			}
		}
		if len(first) != 2 {
			t.Errorf("twice %v came first", first)
		}
	})
	t.Run("a network's names are its own", func(t *testing.T) {
		onBoth := l.Sandbox(t, "h1", "both", "--network", "red", "--network", "blue")
		knows(t, onBoth, "far", "NOERROR "+far.Addr(t).String())
		digs(t, onBoth, map[string]string{
			"db.blue": "NOERROR " + four, "far.red.lab.example": "NOERROR " + far.Addr(t).String(), "-x " + four: "NOERROR db.blue.ovl.internal.",
		})
		digs(t, far, map[string]string{"db": "NXDOMAIN", "db.blue.ovl.internal": "NXDOMAIN", "db.blue": "SERVFAIL", "-x " + four: "SERVFAIL"})
		// Nor by asking where red's containers ask: on this host, on the other.
		for _, c := range []labtest.Container{onBoth, far} {
			gateway := gatewayOf(t, c)
			for _, transport := range []string{"+notcp", "+tcp"} {
				if got := dig(t, web, "@"+gateway, transport, "+time=1", "far.red.lab.example"); got.status != "" {
					t.Errorf("the gateway of red on %s answers %s: %s", c.Host, web, got)
				}
			}
		}
	})
	t.Run("a name goes with its container", func(t *testing.T) {
		began := time.Now()
		l.Run(t, "h2", "ovlctl", "rm", "-f", "db")
		removed := time.Since(began)
		t.Logf("rm took %v; gone on the other host at most %v later", removed, knows(t, web, "db.blue", "NXDOMAIN"))
		digs(t, web, map[string]string{"data.blue": "NOERROR " + nearFour, "-x " + four: "NXDOMAIN"})
	})
	atRest(t, l)
}

// gatewayOf returns the first resolver of a container: the gateway of its first
// network.
func gatewayOf(t *testing.T, c labtest.Container) string {
	t.Helper()
	f := strings.Fields(c.Run(t, "grep", "-m1", "nameserver", "/etc/resolv.conf"))
	if len(f) != 2 || netip.MustParseAddr(f[1]).IsLoopback() {
		t.Fatalf("resolv.conf of %s names %v", c, f)
	}
	return f[1]
}

func TestNamesWhileEtcdIsAway(t *testing.T) {
	t.Parallel()
	l := labtest.Up(t, lab.Config{Hosts: 2})
	l.Run(t, "h1", "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16", "--vni", "100")
	web, db := l.Sandbox(t, "h1", "web", "--network", "blue"), l.Sandbox(t, "h2", "db", "--network", "blue")
	knows(t, web, "db.blue", "NOERROR "+db.Addr(t).String())
	knows(t, db, "web.blue", "NOERROR "+web.Addr(t).String())
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	// Stopped, an agent writes what it knows; killed later, it knows it from
	// there.
	must(l.Stop(t.Context(), "h1", lab.Agent))
	must(l.Start(t.Context(), "h1", lab.Agent))
	must(l.Kill(t.Context(), lab.Control, lab.Etcd))
	knows(t, web, "db.blue", "NOERROR "+db.Addr(t).String()) // an agent that has just started answers after its first pass
	must(l.Kill(t.Context(), "h1", lab.Agent))
	must(l.Start(t.Context(), "h1", lab.Agent))
	knows(t, web, "db.blue", "NOERROR "+db.Addr(t).String())
	// What this host does is known here at once.
	late := l.Sandbox(t, "h1", "late", "--network", "blue")
	digs(t, web, map[string]string{"late.blue": "NOERROR " + late.Addr(t).String(), "web.blue": "NOERROR " + web.Addr(t).String()})

	// The bridge with its gateway made anew is asked as before.
	l.Run(t, "h1", "ip", "link", "del", "ovb100")
	knows(t, web, "db.blue", "NOERROR "+db.Addr(t).String())
	must(l.Start(t.Context(), lab.Control, lab.Etcd))
	knows(t, db, "late.blue", "NOERROR "+late.Addr(t).String())
}

func TestOtherNamesGoToTheHostsResolvers(t *testing.T) {
	t.Parallel()
	l := labtest.Up(t, lab.Config{Hosts: 1})
	l.Run(t, "h1", "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16")
	l.Run(t, "h1", "ovlctl", "network", "create", "dark", "--subnet", "10.66.0.0/16", "--internal")
	web := l.Sandbox(t, "h1", "web", "--network", "blue")
	dark := l.Sandbox(t, "h1", "dark", "--network", "dark")
	digs(t, web, map[string]string{"www.example.com": "SERVFAIL"}) // the lab has no resolver yet
	asked := l.NameServer(t)

	knows(t, web, "www.example.com", "NOERROR 198.51.100.7") // the file is looked at again
	for range 3 {
		digs(t, web, map[string]string{"www.example.com": "NOERROR 198.51.100.7", "WWW.example.COM": "NOERROR 198.51.100.7"})
	}
	digs(t, web, map[string]string{
		"www.example.com MX": "NOERROR", "nope.example.com": "NXDOMAIN", "nope": "NXDOMAIN", "nope.blue": "NXDOMAIN",
		"x.other.ovl.internal": "NXDOMAIN", "-x 10.64.200.200": "NXDOMAIN",
	})
	for _, transport := range []string{"+tcp", "+notcp", "+noedns"} { // dig asks again over TCP, as everybody does
		if got := dig(t, web, transport, "big.example.com", "TXT"); len(got.data) != 60 {
			t.Errorf("%s: %d records of a large answer, want 60", transport, len(got.data))
		}
	}
	if got := dig(t, web, "+ignore", "big.example.com", "TXT"); len(got.data) >= 60 {
		t.Errorf("over UDP alone %d records of a large answer", len(got.data))
	}
	// A network without a way out has none for questions either.
	digs(t, dark, map[string]string{"www.example.com": "REFUSED", "dark": "NOERROR " + dark.Addr(t).String(), "nope.dark": "NXDOMAIN"})
	// Who asks elsewhere by choice gets what is there.
	own := l.Sandbox(t, "h1", "own", "--network", "blue", "--dns", "192.168.77.254")
	digs(t, own, map[string]string{"www.example.com": "NOERROR 198.51.100.7", "web.blue": "NXDOMAIN"})

	// A firewall that drops what it was not told of is no obstacle.
	l.Run(t, "h1", "iptables", "-A", "INPUT", "-i", "ovb+", "-j", "DROP")
	digs(t, web, map[string]string{"web.blue": "NOERROR " + web.Addr(t).String(), "+tcp web.blue": "NOERROR " + web.Addr(t).String()})

	questions := asked()
	count := 0
	for _, q := range questions {
		f := strings.Fields(q)
		if strings.Count(f[1], ".") < 2 || strings.HasSuffix(f[1], "ovl.internal.") || strings.HasSuffix(f[1], "64.10.in-addr.arpa.") {
			t.Errorf("the host's resolver was asked %s, which is ours", q)
		}
		if q == "udp www.example.com. A" {
			count++
		}
	}
	// Once, and once more by the one that asks it directly.
	if count != 2 {
		t.Errorf("www.example.com was asked for %d times, want 2: %v", count, questions)
	}
	if !slices.Contains(questions, "tcp big.example.com. TXT") {
		t.Errorf("the large answer was not fetched over TCP: %v", questions)
	}
}
