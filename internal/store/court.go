package store

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/identity"
)

// mercy is how long a subnet or a host counts after its record has gone, if its
// host still is a member: long enough for the host to write again what somebody
// else has deleted, so that no packet is lost meanwhile. Who takes the prefix has it
// at once, and what a host gives back itself harms nobody for so long.
const mercy = 5 * time.Second

// signer is whose key a host's certificate names.
type signer struct {
	key    identity.Print
	public crypto.PublicKey
}

func decodeSigner(r Record) (*signer, error) {
	_, c, err := DecodeCertificate(r)
	if err != nil {
		return nil, err
	}
	return &signer{key: identity.PrintOf(c), public: c.PublicKey}, nil
}

// verdict is what a court found about a fact.
type verdict struct {
	age     uint64    // of the court at that time; 0 = not judged
	doubted error     // why it is not believed
	checked *signer   // with whose key the seal was compared
	broken  error     // of that seal
	past    *fact     // the last one at that key that was believed, while this one is not
	until   time.Time // until then past's host has time to contradict
}

// keptFact is what a deleted record said.
type keptFact struct {
	*fact
	until time.Time
}

// court judges which of the facts in a mirror are their hosts' own: signed with the
// key that the list of certificates names. Each signature is verified once, and
// again if its host gets another key. The mirror's lock guards it.
type court struct {
	roots   func() []*x509.Certificate // nil: nothing is signed in this cluster
	trusted []*x509.Certificate        // the roots as of the last look
	// proved are the keys of which a certificate of one of the roots says that
	// they are the host's: renewed for the same key, it need not be proved again.
	proved map[cluster.HostID]identity.Print
	// handed are the hosts that changed their keys a moment ago: what they wrote
	// with the last one counts until they have signed it again.
	handed map[cluster.HostID]handover
	age    uint64             // grows whenever a verdict may change
	held   func(string) *fact // what the mirror holds at a key
	later  func()             // called when mercy has ended
}

// handover is a host's last key, and until when what it had signed before that
// revision counts.
type handover struct {
	last   *signer
	before int64
	until  time.Time
}

// signAgain is how long a host has to sign its records with its next key.
const signAgain = time.Minute

// replaceKey notes that a host's certificate was replaced by one of another key.
// What was written with the last key afterwards counts no more.
func (c *court) replaceKey(last, next *fact) {
	if last == nil || last.kind != factCertificate || next.kind != factCertificate || last.signer.key == next.signer.key {
		return
	}
	id, err := ParseCertificateKey(next.Key)
	if err != nil || c.proved[id] != last.signer.key {
		return
	}
	if _, err := c.prove(id, next); err != nil {
		return
	}
	c.handed[id] = handover{last.signer, next.ModRev, time.Now().Add(signAgain)}
	time.AfterFunc(signAgain, c.later)
}

// forget ends what is known of a host whose certificate is gone.
func (c *court) forget(key string) {
	if id, err := ParseCertificateKey(key); err == nil {
		delete(c.handed, id)
		delete(c.proved, id)
	}
}

// look takes up the roots as they are now, and reports whether they changed.
func (c *court) look() bool {
	if c.roots == nil {
		return false
	}
	now := c.roots()
	if slices.EqualFunc(now, c.trusted, (*x509.Certificate).Equal) {
		return false
	}
	c.trusted = now
	clear(c.proved)
	c.age++
	return true
}

// isSigned reports whether hosts sign the records of that kind.
func isSigned(key string) bool {
	for _, kind := range []string{HostsPrefix, subnetsRoot, endpointsRoot} {
		if strings.HasPrefix(key, kind) {
			return true
		}
	}
	return false
}

// accept takes facts as judged: by the certificates among them.
func (c *court) accept(facts []*fact) {
	signers := map[cluster.HostID]*signer{}
	for _, f := range facts {
		if id, err := ParseCertificateKey(f.Key); err == nil && f.kind == factCertificate {
			signers[id], c.proved[id] = f.signer, f.signer.key
		}
	}
	for _, f := range facts {
		if id, signed := f.claimant(); signed {
			f.checked = signers[id]
		}
	}
}

// claimant returns the host that a record of the signed kinds says it is of.
func (f *fact) claimant() (id cluster.HostID, signed bool) {
	switch f.kind {
	case factHost:
		return f.host.ID, true
	case factLease, factRelease:
		return f.lease.Host, true
	case factEndpoint:
		return f.endpoint.Host, true
	default:
		return "", false
	}
}

// doubt returns why a fact is not believed, or nil.
func (c *court) doubt(f *fact) error {
	id, signed := f.claimant()
	if c.roots == nil || !signed {
		return nil
	}
	if f.age != c.age {
		f.age, f.doubted = c.age, c.try(f, id)
	}
	return f.doubted
}

// errTaken is another host's subnet.
var errTaken = errors.New("another host has that subnet and has not given it back")

// errNoMember is a record of a host that was removed, or never joined.
var errNoMember = errors.New("that is no member of the cluster")

// errReplayed is a record of another host's that was written later than it says.
var errReplayed = errors.New("it is an old record, put back in the place of a newer one")

func (c *court) try(f *fact, id cluster.HostID) error {
	s, err := c.signer(id)
	if err != nil {
		return err
	}
	if last := c.last(id, f.Record); last != nil {
		if f.compare(last); f.broken == nil {
			return nil
		}
	}
	f.compare(s)
	if f.broken != nil {
		return f.broken
	}
	if f.kind == factLease || f.kind == factRelease {
		return f.succeeds()
	}
	return nil
}

// succeeds reports whether a signed lease or release may take the place of what was
// believed at its key before. A host releases its own, and that alone; another claims
// what is released, or what its host does not defend.
func (f *fact) succeeds() error {
	p := f.past
	switch {
	case p == nil || p.lease.Host == f.lease.Host && f.kind == factLease:
		return nil
	case f.after < p.ModRev:
		return errReplayed
	case p.lease.Host != f.lease.Host && (f.kind == factRelease || time.Now().Before(f.until)):
		return errTaken
	}
	return nil
}

// last returns the last key of a host, if it has another one since a moment ago and
// the record is older than that.
func (c *court) last(id cluster.HostID, r Record) *signer {
	h, ok := c.handed[id]
	if !ok || r.ModRev >= h.before || !time.Now().Before(h.until) {
		return nil
	}
	return h.last
}

// compare verifies the seal of a fact, unless that has been done with this key.
func (f *fact) compare(s *signer) {
	if f.checked == nil || f.checked.key != s.key {
		f.broken = identity.CheckSeal(s.public, f.place(), f.Value)
	}
	f.checked = s
}

func (r Record) place() identity.Place { return identity.Place{Key: r.Key, Lease: int64(r.Lease)} }

// signer returns the key of a host.
func (c *court) signer(id cluster.HostID) (*signer, error) {
	f := c.held(CertificateKey(id))
	switch {
	case f == nil:
		return nil, errNoMember
	case f.kind != factCertificate:
		return nil, fmt.Errorf("the certificate of host %s cannot be read", id)
	case c.proved[id] == f.signer.key:
		return f.signer, nil
	}
	return c.prove(id, f)
}

// prove returns the key in a certificate that says that it is the host's.
func (c *court) prove(id cluster.HostID, f *fact) (*signer, error) {
	_, cert, err := DecodeCertificate(f.Record)
	if err == nil {
		err = identity.CheckHolder(cert, c.trusted, id)
	}
	if err != nil {
		return nil, err
	}
	c.proved[id] = f.signer.key
	return f.signer, nil
}

// proves reports whether a record holds a certificate of one of the roots that says
// that its key is the host's.
func proves(r Record, roots []*x509.Certificate) bool {
	id, c, err := DecodeCertificate(r)
	return err == nil && identity.CheckHolder(c, roots, id) == nil
}

// stands reports whether f is a fact of the signed kinds that is believed.
func (c *court) stands(f *fact) bool {
	if f == nil {
		return false
	}
	_, signed := f.claimant()
	return signed && c.doubt(f) == nil
}

// standing returns the last fact at a key that was believed, if there is one and its
// host has not released it.
func (c *court) standing(f *fact) *fact {
	switch {
	case c.roots == nil || f == nil:
		return nil
	case c.stands(f):
		f.past = nil
		if f.kind == factRelease {
			return nil
		}
		return f
	case c.stands(f.past):
		return f.past
	}
	return nil
}

// succeed remembers what was believed before f, in case that f is not: nobody takes
// a host's place with a record that is not his.
func (s *subscription) succeed(f, old *fact) {
	if s.court.roots == nil {
		return
	}
	f.until = time.Now().Add(mercy)
	switch k := s.kept[f.Key]; {
	case k != nil && old == nil:
		old, f.until = k.fact, k.until
	case old != nil && !s.court.stands(old):
		f.until = old.until
	}
	delete(s.kept, f.Key)
	if s.prefix == CertificatesPrefix {
		s.court.replaceKey(old, f)
	}
	if f.past = s.court.standing(old); f.past == nil {
		return
	}
	if s.court.stands(f) {
		f.past = nil
	} else if f.kind == factLease {
		time.AfterFunc(time.Until(f.until), s.court.later)
	}
}

// keep has a fact count for a while longer though its record is gone.
func (s *subscription) keep(old *fact) {
	if old == nil {
		return
	}
	if s.prefix == CertificatesPrefix {
		s.court.forget(old.Key)
	}
	if f := s.court.standing(old); f != nil && (f.kind == factHost || f.kind == factLease) {
		s.kept[f.Key] = &keptFact{fact: f, until: time.Now().Add(mercy)}
		time.AfterFunc(mercy, s.court.later)
	}
}

// turn has all verdicts made anew after a change of a certificate.
func (s *subscription) turn() {
	if s.prefix == CertificatesPrefix {
		s.court.age++
	}
}

// outlived reports whether a lease that is no longer in the store is of an earlier
// network of its name.
func (c *court) outlived(f *fact) bool {
	if f.kind != factLease {
		return false
	}
	n := c.held(NetworkKey(f.lease.Network))
	return n != nil && n.CreateRev > f.ModRev
}

// believed returns the facts of a subscription for a snapshot: those that are
// believed, what stood before where one is not, and a problem for that.
func (c *court) believed(s *subscription) []*fact {
	facts := s.inOrder()
	if c.roots == nil || len(s.kept) == 0 && !slices.ContainsFunc(facts, func(f *fact) bool { return f.past != nil || c.doubt(f) != nil }) {
		return facts
	}
	out := make([]*fact, 0, len(facts))
	for _, f := range facts {
		if err := c.doubt(f); err != nil {
			out = append(out, &fact{Record: f.Record, kind: factProblem, problem: doubtful(f, err)})
		} else {
			out = append(out, f)
		}
		if !c.stands(f) && c.stands(f.past) && !c.outlived(f.past) {
			out = append(out, f.past)
		}
	}
	now := time.Now()
	for key, k := range s.kept {
		switch {
		case !now.Before(k.until):
			delete(s.kept, key)
		case c.stands(k.fact) && !c.outlived(k.fact):
			out = append(out, k.fact)
		}
	}
	return out
}

// lasting returns the facts of a subscription whose records are worth keeping on
// disk: in the place of one that is not believed the one before.
func (c *court) lasting(s *subscription) []*fact {
	var out []*fact
	for _, f := range s.held {
		if c.roots == nil || c.stands(f) || !isSigned(f.Key) {
			out = append(out, f)
		} else if c.stands(f.past) {
			out = append(out, f.past)
		}
	}
	return out
}

// doubtful says in words what is not believed, and why.
func doubtful(f *fact, err error) cluster.Problem {
	id, _ := f.claimant()
	return DoubtProblem(f.Key, id, err)
}

// DoubtProblem says of a record that names a host why it is not believed.
func DoubtProblem(key string, id cluster.HostID, err error) cluster.Problem {
	hint := "somebody who can write to etcd lies: look who can, and ovlctl host rm a stolen host; an honest host writes its own again by itself"
	if errors.Is(err, errNoMember) {
		hint = fmt.Sprintf("if the host was removed it left this behind: ovlctl host rm --force %s", id)
	}
	return cluster.Problem{
		Severity: cluster.SeverityWarning, Subject: clipText("record " + key), Hint: hint,
		What: clipText(fmt.Sprintf("ignored: it says that it is of host %s, but %v", id, err)),
	}
}
