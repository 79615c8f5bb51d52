package dataplane

import (
	"fmt"
	"math"
)

// QdiscHandle marks the queueing disciplines that are ours (tcm_handle of struct
// tcmsg, include/uapi/linux/rtnetlink.h): 4f: is what tc(8) shows. The number is
// that of [RouteProtocol].
const QdiscHandle = RouteProtocol << 16

// QdiscKey identifies what is at the root of a link.
type QdiscKey struct {
	NS   NS
	Link string
}

// Qdisc is a token bucket, tc-tbf(8), at the root of a link of ours: what leaves
// by the link leaves no faster than that. Its fields are the kernel's own, so that
// it reads back as it was written; see [NewQdisc].
type Qdisc struct {
	QdiscKey
	Rate uint32 // bytes per second
	// Buffer is the time that a burst takes at Rate, in ticks of 64 ns
	// (PSCHED_SHIFT of include/net/pkt_sched.h).
	Buffer uint32
	Limit  uint32 // bytes that may wait; more are dropped
}

const (
	// tick is the unit of Buffer, in nanoseconds.
	tick = 64
	// maxBuffer is the longest burst that the kernel takes: it holds the time in 32
	// bits of nanoseconds (tbf_change in net/sched/sch_tbf.c).
	maxBuffer = math.MaxUint32 / tick
	// waits is how long a frame may wait, as the divisor of a second: 25 ms, like
	// the reference plugin's.
	waits = 40
)

// NewQdisc returns a token bucket that lets bursts of so many bytes through at
// once, and bytes per second in the long run. A burst lasts for four seconds at
// most.
func NewQdisc(key QdiscKey, rate uint32, burst uint64) Qdisc {
	rate = max(rate, 1)
	burst = min(burst, uint64(rate)*4)
	// Rounded up: a frame that is as large as the burst must fit.
	ticks := (burst*1e9 + uint64(rate)*tick - 1) / (uint64(rate) * tick)
	return Qdisc{
		QdiscKey: key, Rate: rate, Buffer: uint32(min(ticks, maxBuffer)),
		Limit: uint32(min(uint64(rate)/waits+burst, math.MaxUint32)),
	}
}

// Table implements [Key].
func (k QdiscKey) Table() Table { return TableQdisc }

// Namespace implements [Key].
func (k QdiscKey) Namespace() NS { return k.NS }

func (k QdiscKey) String() string { return in(k.NS) + "qdisc dev " + k.Link }

// Key implements [Row].
func (r Qdisc) Key() Key { return r.QdiscKey }

// Same implements [Row].
func (r Qdisc) Same(o Row) bool { return Row(r) == o }

func (r Qdisc) String() string {
	burst := uint64(r.Buffer) * tick * uint64(r.Rate) / 1e9
	return fmt.Sprintf("%s tbf rate %dbit burst %d limit %d", r.QdiscKey, uint64(r.Rate)*8, burst, r.Limit)
}
