package resolver

import (
	"hash/maphash"
	"strings"
	"sync/atomic"

	"github.com/miekg/dns"
)

// udpSize is the largest message that is sent and asked for over UDP, in bytes:
// it fits into one packet everywhere (DNS flag day 2020).
const udpSize = 1232

// refuse returns an answer that says nothing but why there is none.
func refuse(req *dns.Msg, rcode int) *dns.Msg {
	m := new(dns.Msg).SetRcode(req, rcode)
	m.RecursionAvailable = true
	return m
}

// finish makes a reply, which has no OPT record, fit what the asker can take:
// EDNS if it speaks that (RFC 6891), the size of its buffer, less than which is
// a truncated answer that makes it ask again over TCP.
func finish(req, reply *dns.Msg, stream bool) *dns.Msg {
	size := dns.MinMsgSize
	opt := req.IsEdns0()
	if opt != nil {
		size = min(max(int(opt.UDPSize()), dns.MinMsgSize), udpSize)
		reply.SetEdns0(udpSize, opt.Do())
		if opt.Version() != 0 {
			reply.Rcode, reply.Answer, reply.Ns = dns.RcodeBadVers, nil, nil
		}
	} else if reply.Rcode > 0xf {
		reply.Rcode = dns.RcodeServerFailure // the upper bits are in the OPT record
	}
	if stream {
		size = dns.MaxMsgSize
	}
	reply.Truncate(size)
	return reply
}

// withoutOPT returns the extra records of m that are not EDNS's: those are
// between two neighbours, not for whoever asked the first.
func withoutOPT(extra []dns.RR) []dns.RR {
	var out []dns.RR
	for _, rr := range extra {
		if rr.Header().Rrtype != dns.TypeOPT {
			out = append(out, rr)
		}
	}
	return out
}

// turns counts how often each name was asked for, so that the addresses of one
// take turns. A client asks for A and AAAA in pairs: a counter for all questions
// would show each the same order every time.
type turns struct {
	seed  maphash.Seed
	count [256]atomic.Uint32 // by hash: two names that share one only skip turns
}

func newTurns() *turns { return &turns{seed: maphash.MakeSeed()} }

func (t *turns) next(q dns.Question) uint32 {
	h := maphash.String(t.seed, strings.ToLower(q.Name)) + uint64(q.Qtype)
	return t.count[h%uint64(len(t.count))].Add(1) - 1
}
