package resolver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/singleflight"
)

// A client waits five seconds before it asks again (RES_TIMEOUT in resolv.h): by
// then it must have an answer, be it that there is none.
const (
	askLimit   = 1500 * time.Millisecond // of one question to one server
	totalLimit = 4 * time.Second
)

// exchange sends a message to a server over "udp" or "tcp" and returns what it
// answers.
type exchange func(ctx context.Context, network string, m *dns.Msg, server netip.AddrPort) (*dns.Msg, error)

// forwarder asks the host's resolvers. It is safe for concurrent use.
type forwarder struct {
	upstreams *upstreams
	cache     *cache
	exchange  exchange
	flights   singleflight.Group
}

// answer returns what the host's resolvers answer to req, without EDNS, or that
// they do not. Who asks the same at the same time shares an answer.
func (f *forwarder) answer(req *dns.Msg) *dns.Msg {
	q := questionOf(req)
	m := f.cache.get(q)
	if m == nil {
		key := fmt.Sprintf("%s %d %d %t %t", q.name, q.rrtype, q.class, q.dnssec, q.unchecked)
		shared, _, _ := f.flights.Do(key, func() (any, error) {
			ctx, cancel := context.WithTimeout(context.Background(), totalLimit) // it is for all who ask, not for one of them
			defer cancel()
			m := f.ask(ctx, q)
			f.cache.put(q, m)
			return m, nil
		})
		m = shared.(*dns.Msg).Copy()
	}
	asked := req.Question[0]
	m.Id, m.Opcode, m.RecursionDesired, m.CheckingDisabled = req.Id, req.Opcode, req.RecursionDesired, req.CheckingDisabled
	m.Question = []dns.Question{asked} // in the spelling of whoever asks
	m.Authoritative = false
	m.AuthenticatedData = m.AuthenticatedData && (req.AuthenticatedData || q.dnssec) // RFC 6840 section 5.7
	return m
}

// ask asks one server after the other until one gives an answer worth passing
// on. It never fails: the worst answer is SERVFAIL.
func (f *forwarder) ask(ctx context.Context, q question) *dns.Msg {
	out := new(dns.Msg)
	out.RecursionDesired, out.CheckingDisabled, out.AuthenticatedData = true, q.unchecked, true
	out.Question = []dns.Question{{Name: q.name, Qtype: q.rrtype, Qclass: q.class}}
	out.SetEdns0(udpSize, q.dnssec)

	var poor *dns.Msg // an answer, but of one who cannot or will not
	for _, server := range f.upstreams.list() {
		if ctx.Err() != nil {
			break
		}
		m, err := f.askOne(ctx, out, server)
		f.upstreams.note(server, err == nil)
		if err != nil {
			continue
		}
		switch m.Rcode {
		case dns.RcodeSuccess, dns.RcodeNameError:
			return m
		}
		poor = m
	}
	if poor != nil {
		return poor
	}
	return refuse(out, dns.RcodeServerFailure)
}

// askOne asks one server, over TCP if its answer does not fit into a packet,
// and without EDNS if it does not know that.
func (f *forwarder) askOne(ctx context.Context, out *dns.Msg, server netip.AddrPort) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	out = out.Copy()
	out.Id = dns.Id()
	m, err := f.exchange(ctx, "udp", out, server)
	if err == nil && m.Rcode == dns.RcodeFormatError && m.IsEdns0() == nil {
		out.Extra = nil // RFC 6891 section 7: a server of before 1999
		m, err = f.exchange(ctx, "udp", out, server)
	}
	if err == nil && m.Truncated {
		if whole, terr := f.exchange(ctx, "tcp", out, server); terr == nil {
			m = whole
		} // else the part is all there is, and says so
	}
	if err != nil {
		return nil, err
	}
	return m, accept(out, m)
}

var errForeign = errors.New("not the answer to what was asked")

// accept makes m, which came from outside, fit to be passed on, or says that it
// does not answer out.
func accept(out, m *dns.Msg) error {
	if !m.Response || m.Id != out.Id || m.Opcode != out.Opcode || len(m.Question) != 1 {
		return errForeign
	}
	a, b := m.Question[0], out.Question[0]
	if !strings.EqualFold(a.Name, b.Name) || a.Qtype != b.Qtype || a.Qclass != b.Qclass {
		return errForeign
	}
	m.Extra = withoutOPT(m.Extra)
	m.RecursionAvailable, m.Zero = true, false
	return nil
}

// send is the exchange over sockets. Each question has a socket of its own, and
// with it a random port, which together with the ID a forger must guess (RFC 5452).
func send(ctx context.Context, network string, m *dns.Msg, server netip.AddrPort) (*dns.Msg, error) {
	c := dns.Client{Net: network}
	r, _, err := c.ExchangeContext(ctx, m, server.String())
	return r, err
}
