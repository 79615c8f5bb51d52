package labtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"

	"github.com/ovlnet/ovl/internal/lab"
)

// nameServerEnv makes a test binary a name server: it is where that listens.
const nameServerEnv = "OVL_TEST_NAMESERVER"

// nameServerAddr is that of [lab.Outside].
const nameServerAddr = "192.168.77.254"

// asksFor begins a line of the name server's log.
const asksFor = "question "

// Program is the program that this binary is besides its tests, if a test has started it
// as one. It is to be called before anything else; [Code] does.
func Program() (code int, is bool) {
	at := os.Getenv(nameServerEnv)
	if at == "" {
		return 0, false
	}
	fmt.Println(serveNames(at))
	return 1, true
}

// NameServer starts a resolver on the outside and makes the hosts ask it. It knows
// www.example.com, of one IPv4 address, and big.example.com, whose TXT records are too many for
// UDP. asked returns the questions that it has answered so far: transport, name, type.
func (l *Lab) NameServer(tb testing.TB) (asked func() []string) {
	tb.Helper()
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	d := l.StartDaemon(tb, lab.Outside, "names", "env", nameServerEnv+"="+nameServerAddr+":53", self)
	Until(tb, "the name server listens", func() error {
		if !strings.HasPrefix(d.Log(tb), "ready\n") {
			return errors.New(d.Log(tb))
		}
		return nil
	})
	for _, host := range l.Members() {
		l.Run(tb, host, "sh", "-c", "echo nameserver "+nameServerAddr+" > /etc/resolv.conf")
	}
	return func() []string {
		var questions []string
		for line := range strings.Lines(d.Log(tb)) {
			if q, ok := strings.CutPrefix(line, asksFor); ok {
				questions = append(questions, strings.TrimSpace(q))
			}
		}
		return questions
	}
}

// serveNames answers at an address until somebody ends this process.
func serveNames(at string) error {
	packets, err := new(net.ListenConfig).ListenPacket(context.Background(), "udp", at)
	if err != nil {
		return err
	}
	streams, err := new(net.ListenConfig).Listen(context.Background(), "tcp", at)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	var ended [2]error
	var wg sync.WaitGroup
	for i, s := range []*dns.Server{{PacketConn: packets, Handler: dns.HandlerFunc(answerName)}, {Listener: streams, Handler: dns.HandlerFunc(answerName)}} {
		wg.Go(func() { ended[i] = s.ActivateAndServe() })
	}
	wg.Wait()
	return errors.Join(ended[:]...)
}

// answerName answers a question, and says before that it was asked.
func answerName(w dns.ResponseWriter, req *dns.Msg) {
	q, udp := req.Question[0], w.RemoteAddr().Network() == "udp"
	fmt.Println(asksFor + strings.Join([]string{w.RemoteAddr().Network(), strings.ToLower(q.Name), dns.TypeToString[q.Qtype]}, " "))
	m := new(dns.Msg).SetReply(req)
	hdr := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET, Ttl: 300}
	switch name := strings.ToLower(q.Name); {
	case name != "www.example.com." && name != "big.example.com.":
		m.Rcode = dns.RcodeNameError
	case name == "www.example.com." && q.Qtype == dns.TypeA:
		m.Answer = []dns.RR{&dns.A{Hdr: hdr, A: net.IPv4(198, 51, 100, 7)}}
	case name == "big.example.com." && q.Qtype == dns.TypeTXT:
		for i := range 60 {
			m.Answer = append(m.Answer, &dns.TXT{Hdr: hdr, Txt: []string{fmt.Sprintf("%02d %s", i, strings.Repeat("x", 40))}})
		}
	}
	if udp {
		m.Truncate(dns.MinMsgSize)
	}
	_ = w.WriteMsg(m) // whoever asked has gone
}
