// Command dnsecho is the least that a name server made with miekg/dns can be:
// it answers every question with one address. The benchmark of the agent's
// resolver runs beside it.
package main

import (
	"fmt"
	"net"
	"os"

	"github.com/miekg/dns"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: dnsecho ADDRESS:PORT")
		os.Exit(2)
	}
	answer := dns.HandlerFunc(func(w dns.ResponseWriter, req *dns.Msg) {
		m := new(dns.Msg).SetReply(req)
		m.Answer = []dns.RR{&dns.A{
			Hdr: dns.RR_Header{Name: req.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET},
			A:   net.IPv4(10, 0, 0, 1),
		}}
		_ = w.WriteMsg(m) // whoever asked has gone
	})
	if err := dns.ListenAndServe(os.Args[1], "udp", answer); err != nil {
		fmt.Fprintln(os.Stderr, "dnsecho:", err)
		os.Exit(1)
	}
}
