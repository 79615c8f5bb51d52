package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// crowdCommand makes this test's own program, run on a host of the lab, attach
// or detach many bare namespaces through the agent's socket: a process for each
// container would be most of what is measured.
const crowdCommand = "crowd"

// crowded is what such a run says.
type crowded struct {
	Took time.Duration `json:"took"`
	P50  time.Duration `json:"p50"`
	P99  time.Duration `json:"p99"`
}

// crowd attaches the namespaces of those names to a network, or detaches them, that
// many at once.
func crowd(verb, network string, at int, names []string) (crowded, error) {
	conn, err := grpc.NewClient("unix:///run/ovl/agent.sock", grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return crowded{}, err
	}
	defer conn.Close()
	agent := ovlv1.NewAttachmentServiceClient(conn)
	took := make([]time.Duration, len(names))
	began := time.Now()
	g, ctx := errgroup.WithContext(context.Background())
	g.SetLimit(at)
	for i, name := range names {
		g.Go(func() error {
			var err error
			start := time.Now()
			if verb == "attach" {
				_, err = agent.Attach(ctx, &ovlv1.AttachRequest{Name: name, Netns: "/run/netns/" + name, Interfaces: []*ovlv1.InterfaceRequest{{Network: network}}})
			} else {
				_, err = agent.Detach(ctx, &ovlv1.DetachRequest{Id: name})
			}
			took[i] = time.Since(start)
			return err
		})
	}
	err = g.Wait()
	all := time.Since(began)
	slices.Sort(took)
	return crowded{Took: all, P50: took[len(took)/2], P99: took[len(took)*99/100]}, err
}

// crowdMain is the program's main function when it is run so.
func crowdMain(args []string) int {
	if len(args) < 4 {
		return 2
	}
	at, err := strconv.Atoi(args[2])
	if err != nil {
		return 2
	}
	said, err := crowd(args[0], args[1], at, args[3:])
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(said)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// attachAll has namespaces made on a host and attached there.
func attachAll(t *testing.T, l *labtest.Lab, host, network string, names []string) {
	t.Helper()
	namespaces(t, l, host, "add", names)
	runCrowd(t, l, host, "attach", network, names)
}

// detachAll undoes attachAll.
func detachAll(t *testing.T, l *labtest.Lab, host, network string, names []string) {
	t.Helper()
	runCrowd(t, l, host, "detach", network, names)
	namespaces(t, l, host, "delete", names)
}

func namespaces(t *testing.T, l *labtest.Lab, host, change string, names []string) {
	t.Helper()
	l.Run(t, host, append([]string{"sh", "-c", "for n; do echo netns " + change + " $n; done | ip -batch -", "sh"}, names...)...)
}

func runCrowd(t *testing.T, l *labtest.Lab, host, verb, network string, names []string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var said crowded
	l.JSON(t, &said, host, append([]string{self, crowdCommand, verb, network, "100"}, names...)...)
	t.Logf("%s %d: %v, each %v (p50), %v (p99)", verb, len(names), said.Took.Round(time.Millisecond), said.P50.Round(time.Millisecond), said.P99.Round(time.Millisecond))
}

// portsOf returns the attachments on each bridge of ours on a host, as the kernel has
// them.
func portsOf(t *testing.T, l *labtest.Lab, host string) map[string][]string {
	t.Helper()
	var links []struct {
		Name   string `json:"ifname"`
		Master string `json:"master"`
		Alias  string `json:"ifalias"`
	}
	l.JSON(t, &links, host, "ip", "-j", "link")
	ports := map[string][]string{}
	for _, link := range links {
		if strings.HasPrefix(link.Name, "ovb") {
			ports[link.Name] = append(ports[link.Name], []string{}...) // there, if with no port
		}
		if link.Master != "" {
			ports[link.Master] = append(ports[link.Master], link.Alias[strings.LastIndexByte(link.Alias, '/')+1:])
		}
	}
	return ports
}

// TestMoreContainersThanABridgeTakes puts 1,200 containers of one network on one
// host: a Linux bridge has 1,023 ports.
func TestMoreContainersThanABridgeTakes(t *testing.T) {
	if testing.Short() {
		t.Skip("1,200 containers: not in -short")
	}
	l := labtest.Up(t, lab.Config{Hosts: 2})
	withStatics(t, l)
	l.Run(t, "h1", "ovlctl", "network", "create", "red", "--subnet", "10.65.0.0/16", "--subnet", "fd65::/48")
	far := l.Sandbox(t, "h2", "far", "--network", "blue")
	first := l.Sandbox(t, "h1", "first", "--network", "blue")
	many := make([]string, 1197)
	for i := range many {
		many[i] = fmt.Sprintf("n%d", i)
	}
	neighbour := listen(t, first, "eth0", lastFrame)
	attachAll(t, l, "h1", "blue", many)
	unasked(t, l, neighbour, many[0])
	last := echo(t, l, "h1", "last", "blue", "8080:7777", "8080:7777/udp")
	fixed := static(t, l, "h1", "fixed")
	stranger := l.Sandbox(t, "h1", "stranger", "--network", "red")

	near, beside := bridgeOf(t, l, first), bridgeOf(t, l, last)
	ports := portsOf(t, l, "h1")
	if beside != near+".1" || len(ports[near]) != 1000 || len(ports[beside]) != 200 {
		t.Errorf("the first container is on %s with %d, the last on %s with %d; want 1000, and 200 on %s", near, len(ports[near]), beside, len(ports[beside]), near+".1")
	}
	if status := l.Run(t, "h1", "ovlctl", "agent", "status"); !strings.Contains(status, beside) {
		t.Errorf("agent status does not name %s:\n%s", beside, status)
	}

	t.Run("all reach all", func(t *testing.T) { complete(t, []labtest.Container{first, last, fixed, far}) })
	t.Run("another network is out of reach", func(t *testing.T) {
		blue, red := []labtest.Container{first, last}, []labtest.Container{stranger}
		pairs := append(eachPair(t, blue, red), eachPair(t, red, blue)...)
		if failed := unanswered(t, pairs); len(failed) != len(pairs) {
			t.Errorf("%d of %d pings across networks are answered", len(pairs)-len(failed), len(pairs))
		}
	})
	t.Run("the outside sees the host's address", func(t *testing.T) {
		for _, c := range []labtest.Container{first, last} {
			if got, want := ask(t, c, addressOf(t, l, lab.Outside)), addressOf(t, l, "h1"); got != want {
				t.Errorf("%s is seen outside as %s, want %s", c, got, want)
			}
		}
	})
	t.Run("a published port", func(t *testing.T) {
		h1, gateway := addressOf(t, l, "h1"), defaultGateway(t, last)
		answered(t, []question{
			{onHost(l, lab.Outside), at(h1, 8080), addressOf(t, l, lab.Outside)},
			{onHost(l, "h1"), at(netip.MustParseAddr("127.0.0.1"), 8080), gateway},
			{within(first), at(h1, 8080), gateway},
			{within(last), at(h1, 8080), gateway},
			{within(far), at(h1, 8080), addressOf(t, l, "h2")},
		})
	})
	t.Run("names", func(t *testing.T) {
		for _, c := range []labtest.Container{first, last} {
			for _, other := range []labtest.Container{first, last, fixed, far} {
				knows(t, c, other.Name+".blue", "NOERROR "+other.Addrs(t, "eth0")[0].String())
			}
			digs(t, c, map[string]string{"stranger.red": "SERVFAIL"})
		}
	})
	t.Run("a deleted bridge comes back", func(t *testing.T) {
		l.Run(t, "h1", "ip", "link", "delete", beside)
		labtest.Until(t, beside+" has its ports again", func() error {
			if n := len(portsOf(t, l, "h1")[beside]); n != 200 {
				return fmt.Errorf("it has %d", n)
			}
			return nil
		})
		complete(t, []labtest.Container{first, last, fixed, far})
	})
	t.Run("a restart changes nothing", func(t *testing.T) {
		before := l.Dump(t, "h1")
		ping := last.StartPing(t, far.Addrs(t, "eth0")[0])
		if err := l.Kill(t.Context(), "h1", lab.Agent); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := l.Start(t.Context(), "h1", lab.Agent); err != nil {
			t.Fatal(err)
		}
		labtest.Until(t, "h1 is at rest", func() error { return l.AtRest(t, "h1") })
		t.Logf("at rest %v after the start", time.Since(began).Round(time.Millisecond))
		ping.NoneLost(t)
		if after := l.Dump(t, "h1"); after != before {
			t.Errorf("the restart changed the host: %s", labtest.Difference(before, after))
		}
	})
	t.Run("the agent's memory", func(t *testing.T) {
		t.Log(l.Run(t, "h1", "sh", "-c", "grep -E 'Vm(RSS|HWM)' /proc/$(cat /run/ovl/agent.pid)/status"))
	})
	t.Run("a network in use is not removed", func(t *testing.T) {
		if r := l.Do(t, "h1", "ovlctl", "network", "rm", "blue", "--yes"); r.Code == 0 || !strings.Contains(r.Stderr, "1198 more") {
			t.Errorf("network rm of a network with 1201 containers: exit code %d: %s", r.Code, r.Stderr)
		}
		if left := l.Run(t, "h1", "ovlctl", "network", "prune", "--yes", "-o", "name"); left != "" {
			t.Errorf("network prune removed %s, which is in use", left)
		}
	})
	t.Run("the second bridge goes with its containers", func(t *testing.T) {
		detachAll(t, l, "h1", "blue", slices.DeleteFunc(slices.Clone(ports[beside]), func(name string) bool { return name == "last" || name == "fixed" }))
		l.Run(t, "h1", "ovlctl", "rm", "-f", "last")
		l.Run(t, "h1", "ovlctl", "rm", "-f", "fixed")
		if ports, there := portsOf(t, l, "h1")[beside]; there {
			t.Errorf("%s is there with %v", beside, ports)
		}
		complete(t, []labtest.Container{first, far})
	})
	t.Run("all go", func(t *testing.T) {
		detachAll(t, l, "h1", "blue", slices.DeleteFunc(slices.Clone(ports[near]), func(name string) bool { return name == "first" }))
		l.Run(t, "h1", "ovlctl", "rm", "-f", "first")
		l.Run(t, "h1", "ovlctl", "rm", "-f", "stranger")
		l.Run(t, "h1", "ovlctl", "host", "drain", "h1")
		labtest.Until(t, "h1 has given everything back", func() error {
			if left := portsOf(t, l, "h1"); len(left) > 0 {
				return fmt.Errorf("still there: %v", left)
			}
			return nil
		})
		if left := subnetsOf(t, l, "blue"); len(left) != 2 { // h2's, of either family
			t.Errorf("subnets of blue: %v", left)
		}
		if r := l.Do(t, "h1", "ovlctl", "run", "-d", "--name", "late", "--network", "blue"); r.Code == 0 {
			t.Error("a draining host took a container")
		}
		if gone := l.Run(t, "h1", "ovlctl", "network", "prune", "--yes", "-o", "name"); gone != "red" {
			t.Errorf("network prune removed %q, want red alone", gone)
		}
		atRest(t, l)
	})
}

// unasked checks that nothing of what a crowd's kernels say while it starts came to a
// neighbour on their bridge, as each word would to every one; and that a word to all does:
// one of the crowd says it now.
func unasked(t *testing.T, l *labtest.Lab, e *ear, one string) {
	t.Helper()
	var links []struct {
		Address string `json:"address"`
		Addrs   []struct {
			Local netip.Addr `json:"local"`
		} `json:"addr_info"`
	}
	l.JSON(t, &links, "h1", "ip", "-n", one, "-j", "addr", "show", "dev", "eth0")
	mac, err := net.ParseMAC(links[0].Address)
	if err != nil {
		t.Fatal(err)
	}
	word := datagram(t, lastFrame, mac, broadcast, links[0].Addrs[0].Local.AsSlice(), net.IPv4bcast.To4())
	sendOn(t, l, "h1", "eth0", [][]byte{word}, "ip", "netns", "exec", one)
	at := portOf(t, e.who)
	host := strings.Fields(l.Run(t, "h1", "cat", "/sys/class/net/"+at.Name+"/address", "/sys/class/net/"+at.Master+"/address"))
	var said []string
	own := 0
	for _, f := range e.heard(t) {
		switch {
		case tells(f, lastFrame):
		case slices.Contains(host, net.HardwareAddr(f[6:12]).String()):
			own++ // the host's kernel says of each subnet's gateway in which groups it is
		default:
			said = append(said, frame{"h1", "eth0", gopacket.NewPacket(f, layers.LayerTypeEthernet, gopacket.Default)}.String())
		}
	}
	if len(said) > 0 {
		t.Errorf("%s heard %d frames of a crowd that starts, such as\n%s", e.who, len(said), strings.Join(said[:min(len(said), 5)], "\n"))
	}
	if own > 50 {
		t.Errorf("%s heard %d frames of the host", e.who, own)
	}
}

// bridgeOf returns the bridge that a container is on.
func bridgeOf(t *testing.T, l *labtest.Lab, c labtest.Container) string {
	t.Helper()
	var found []struct {
		Bridge string `json:"bridge"`
	}
	l.JSON(t, &found, c.Host, "ovlctl", "whois", c.Name, "-o", "json")
	if len(found) != 1 {
		t.Fatalf("whois %s found %v", c, found)
	}
	return found[0].Bridge
}
