//go:build docker

package docker

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// nameServerEnv makes this test binary a name server: TestNameServer.
const nameServerEnv = "OVL_TEST_NAMESERVER"

// TestNameServer is the resolver that the hosts of a lab ask, when it is run on the
// outside.
func TestNameServer(t *testing.T) {
	at := os.Getenv(nameServerEnv)
	if at == "" {
		return // it is no test
	}
	packets, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", at)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(os.Stdout, "ready")
	server := dns.Server{PacketConn: packets, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, req *dns.Msg) {
		m, q := new(dns.Msg).SetReply(req), req.Question[0]
		switch {
		case !strings.EqualFold(q.Name, "www.example.com."):
			m.Rcode = dns.RcodeNameError
		case q.Qtype == dns.TypeA:
			m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET, Ttl: 300}, A: net.IPv4(198, 51, 100, 7)}}
		}
		_ = w.WriteMsg(m) // whoever asked has gone
	})}
	_ = server.ActivateAndServe() // until somebody ends this process
}

// outsideNames runs TestNameServer on the outside and makes the hosts ask it. It ends
// with the lab.
func outsideNames(t *testing.T, l *labtest.Lab) {
	t.Helper()
	const at = "192.168.77.254"
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd, err := l.Command(t.Context(), lab.Outside, "env", nameServerEnv+"="+at+":53", "OVL_BIN_DIR="+os.Getenv("OVL_BIN_DIR"), self, "-test.run=^TestNameServer$")
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() }) // ended with the lab
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "ready" {
		t.Log(lines.Text())
	}
	for _, host := range l.Members() {
		l.Run(t, host, "sh", "-c", "echo nameserver "+at+" > /etc/resolv.conf")
	}
}
