package reconcile

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/ovlnet/ovl/internal/dataplane"
)

// Back-off of a row whose operation fails or which somebody else undoes.
const (
	firstBackoff = 100 * time.Millisecond
	maxBackoff   = 30 * time.Second
	// What is busy or gone is so for a moment: patience is for refusals.
	maxPassing = 500 * time.Millisecond
	// The first pause before a contended row is put back once more.
	firstContention = 250 * time.Millisecond
	// A row that is undone more often than this within contentionWindow is
	// contended. A program that fights back does so within milliseconds; a person
	// or a script that breaks one thing after the other takes a row along a few
	// times a second, and is owed each repair at once.
	contentionCount  = 50
	contentionWindow = 10 * time.Second
	// Rounds of apply and observe within one pass: an operation may find the
	// world changed (class Gone), and then what follows from looking again is
	// still this pass's work.
	maxRounds = 4
)

// errBlocked is the cause in the outcome of a row held back by another.
var errBlocked = errors.New("waits for")

// Reconciler brings the state of one kernel to what is wanted, and remembers
// between passes only what it must to be patient: failures and undoings.
// It is not safe for concurrent use.
type Reconciler struct {
	kernel  Kernel
	have    dataplane.State
	facts   dataplane.Facts
	before  dataplane.State // what was wanted in the pass before
	owed    dataplane.Scope // written, believed, not yet read again
	lending map[string]bool // aliases of links that somebody else has in hand
	lent    dataplane.State // what is there of those, and so not in have
	rows    map[dataplane.Key]*history
}

// history is what is remembered of a row that is not simply done, or that had
// to be put back lately.
type history struct {
	outcome Outcome
	repairs []time.Time
}

// New returns a Reconciler of k that has seen nothing yet.
func New(k Kernel) *Reconciler {
	return &Reconciler{kernel: k, rows: map[dataplane.Key]*history{}, owed: dataplane.Scope{}}
}

// Have returns the state as last observed. Callers must not change it.
func (r *Reconciler) Have() dataplane.State { return r.have }

// Observe reads what scope names again and returns the facts: those of the host
// are the last known ones where the scope did not cover them; Gone is of this
// scope alone.
func (r *Reconciler) Observe(ctx context.Context, scope dataplane.Scope) (dataplane.Facts, error) {
	if len(scope) > 0 {
		state, facts, err := r.kernel.Observe(ctx, scope)
		if err != nil {
			return dataplane.Facts{}, err
		}
		r.takeBack()
		r.have.Replace(scope, state)
		r.withhold()
		r.pay(scope)
		if facts.Host == nil {
			facts.Host = r.facts.Host
		}
		r.facts = facts
		return facts, nil
	}
	return dataplane.Facts{Host: r.facts.Host}, nil
}

// Owed returns what was written since it was last read. A few entries of large
// tables are believed at first: reading five thousand peers again to see one is
// most of what adding it would cost, and nobody waits for that reading. It must
// be done soon all the same (see [Reconciler.Observe]); until then a refusal that
// the kernel did not tell would go unnoticed.
func (r *Reconciler) Owed() dataplane.Scope { return maps.Clone(r.owed) }

// Waive takes out of what is owed what nobody will read: namespaces in which
// nothing of ours is wanted or believed to be.
func (r *Reconciler) Waive(scope dataplane.Scope) { r.pay(scope) }

// pay takes what has been read out of what is owed.
func (r *Reconciler) pay(scope dataplane.Scope) {
	for ns, ts := range scope {
		if r.owed[ns] &^= ts; r.owed[ns] == 0 {
			delete(r.owed, ns)
		}
	}
}

// Apply brings the kernel to want, starting from the state as last observed, and
// reads again what it has written, save what is [Reconciler.Owed]. It returns
// when there is nothing left to do but what waits for a back-off.
func (r *Reconciler) Apply(ctx context.Context, want dataplane.State, now func() time.Time) Report {
	rep := Report{Started: now(), Wanted: want.Len()}
	for round := range maxRounds {
		ops := dataplane.Diff(want, r.have)
		if round == 0 {
			r.settle(want, ops, now())
		}
		p := pass{r: r, want: want, now: now, stopped: map[dataplane.Key]bool{}, written: dataplane.Scope{}, plain: true}
		for len(ops) > 0 && ctx.Err() == nil {
			if n := p.chains(ctx, ops); n > 0 {
				ops = ops[n:]
				continue
			}
			p.sweep(ctx, ops)
			p.fill(ctx, ops)
			p.do(ctx, ops[0])
			ops = ops[1:]
		}
		rep.Applied += p.applied
		if p.plain && p.entries <= maxBelieved {
			r.believe(p.done, p.written)
			p.written = dataplane.Scope{}
		}
		if p.flows {
			p.written.Add(dataplane.Host, dataplane.Of(dataplane.TableFlow))
		}
		if len(p.written) == 0 {
			break
		}
		facts, err := r.Observe(ctx, p.written)
		if err != nil {
			rep.Err = err
			break
		}
		rep.Gone = append(rep.Gone, facts.Gone...)
		if !p.again && !p.flows {
			break
		}
	}
	r.before = want
	rep.Outcomes = r.outcomes()
	return rep
}

// settle closes the history of rows that are in place or no longer wanted: only
// what is in ops is not. Recent repairs are kept a while.
func (r *Reconciler) settle(want dataplane.State, ops []dataplane.Op, now time.Time) {
	open := make(map[dataplane.Key]bool, len(ops))
	for _, op := range ops {
		open[op.Row.Key()] = true
	}
	for k, h := range r.rows {
		h.recent(now)
		if open[k] {
			continue
		}
		if _, wanted := want.Get(k); !wanted || len(h.repairs) == 0 {
			delete(r.rows, k)
		} else if h.outcome.Condition != Contended {
			h.outcome = Outcome{}
		}
	}
}

// recent forgets the repairs before the contention window.
func (h *history) recent(now time.Time) {
	h.repairs = slices.DeleteFunc(h.repairs, func(t time.Time) bool { return now.Sub(t) > contentionWindow })
}

// pass is one round of operations.
type pass struct {
	r       *Reconciler
	want    dataplane.State
	now     func() time.Time
	stopped map[dataplane.Key]bool // rows not done: what requires them is blocked
	written dataplane.Scope
	applied int
	done    []dataplane.Op
	plain   bool // all operations went well, and it is known what they left
	entries int  // done on the host's tables
	again   bool
	filled  int                     // of the next operations, done together
	flows   bool                    // of UDP may go where no rule leads them
	swept   bool                    // what is deleted together has been
	ends    map[string]dataplane.NS // of containers, by the hosts' ends; nil = not asked for yet
}

func (p *pass) do(ctx context.Context, op dataplane.Op) {
	key := op.Row.Key()
	h := p.r.rows[key]
	if h != nil && h.outcome.Next.After(p.now()) {
		p.stopped[key] = true
		return
	}
	if op.Verb != dataplane.Delete && len(p.stopped) > 0 {
		for _, k := range dataplane.Requires(op.Row, p.want) {
			if p.stopped[k] {
				p.stopped[key] = true
				p.r.block(op.Row, k, p.now())
				return
			}
		}
	}
	err := p.apply(ctx, op)
	switch {
	case err == nil && key.Table() == dataplane.TableElement:
		// Nothing else goes with an element or takes it along: it is believed,
		// whatever else the pass does.
		p.r.believe([]dataplane.Op{op}, dataplane.Scope{key.Namespace(): dataplane.Of(dataplane.TableElement)})
		p.applied++
		p.r.repaired(op, p.now())
		return
	case err == nil && key.Table() == dataplane.TableChain:
		p.sure(op)
		return
	}
	p.plain = p.plain && p.r.plain(op)
	p.touch(op)
	if key.Namespace() == dataplane.Host && !p.withPort(op.Row) {
		p.entries++
	}
	if err == nil {
		p.applied++
		p.done = append(p.done, op)
		p.r.repaired(op, p.now())
		return
	}
	p.stopped[key], p.plain = true, false
	first := p.r.fail(op.Row, err, p.now())
	// What is gone, or was busy for a moment, may be there when one looks
	// again; once. After that the back-off counts.
	if c := ClassOf(err); first && c != Refused {
		p.again = true
		p.r.rows[key].outcome.Next = time.Time{}
	}
}

// withPort reports whether a row of the host comes and goes with a container's
// interface: its port, the bridge's entry that leads there, and where its addresses are.
func (p *pass) withPort(r dataplane.Row) bool {
	switch r := r.(type) {
	case dataplane.Link:
		return true
	case dataplane.FDB:
		return !r.Dst.IsValid()
	case dataplane.Neigh:
		return p.want.Links[dataplane.LinkKey{NS: r.NS, Name: r.Link}].Kind == dataplane.Bridge
	}
	return false
}

// touch puts what an operation may have changed into the scope to read again.
// A link takes everything on it along, so its whole namespace is read, save for
// the host's end of a veth, of which nothing but its bridge knows.
func (p *pass) touch(op dataplane.Op) {
	key := op.Row.Key()
	ns := key.Namespace()
	if key.Table() == dataplane.TableSet {
		p.written.Add(ns, dataplane.NFTables) // one of another type may have had to go, and all with it
		return
	}
	link, ok := op.Row.(dataplane.Link)
	switch {
	case !ok:
		p.written.Add(ns, dataplane.Of(key.Table()))
		if key.Table() == dataplane.TableAddr {
			p.written.Add(ns, dataplane.Of(dataplane.TableRoute))
		}
	case link.Kind == dataplane.Veth:
		// The other end comes and goes with this one, and the qdisc and the bridge's entry.
		p.written.Add(dataplane.Host, dataplane.Of(dataplane.TableLink, dataplane.TableQdisc, dataplane.TableFDB))
		if ns != dataplane.Host {
			p.written.Add(ns, dataplane.NSTables)
		} else if other, ok := p.container(link.Name); ok {
			p.written.Add(other, dataplane.NSTables)
		}
	case ns == dataplane.Host:
		p.written.Add(ns, dataplane.AllTables&^dataplane.WallTables&^dataplane.Of(dataplane.TableFlow))
	default:
		p.written.Add(ns, dataplane.NSTables)
	}
	if ok && ns == dataplane.Host && link.Kind != dataplane.Veth {
		for k, l := range p.r.have.Links {
			if l.Parent == link.Name {
				p.written.Add(k.NS, dataplane.NSTables) // it goes with its parent
			}
		}
	}
}

// container returns the namespace in which the other end of a veth was seen.
func (p *pass) container(host string) (dataplane.NS, bool) {
	if p.ends == nil {
		p.ends = map[string]dataplane.NS{}
		for k, l := range p.r.have.Links {
			if l.Peer != "" {
				p.ends[l.Peer] = k.NS
			}
		}
	}
	ns, ok := p.ends[host]
	return ns, ok
}

func (r *Reconciler) history(k dataplane.Key) *history {
	h := r.rows[k]
	if h == nil {
		h = &history{}
		r.rows[k] = h
	}
	return h
}

// fail records a failure and returns whether it is the row's first.
func (r *Reconciler) fail(row dataplane.Row, err error, now time.Time) bool {
	o := &r.history(row.Key()).outcome
	if o.Condition != Failed {
		*o = Outcome{Since: now}
	}
	o.Row, o.Condition, o.Err = row, Failed, err
	o.Tries++
	most := maxBackoff
	if ClassOf(err) != Refused {
		most = maxPassing
	}
	o.Next = now.Add(min(firstBackoff<<min(o.Tries-1, 20), most))
	return o.Tries == 1
}

func (r *Reconciler) block(row dataplane.Row, by dataplane.Key, now time.Time) {
	o := &r.history(row.Key()).outcome
	if o.Condition != Blocked {
		*o = Outcome{Since: now}
	}
	o.Row, o.Condition, o.Err = row, Blocked, &blockedError{by, r.root(by)}
}

// root returns why the row of that key is not done, where it began.
func (r *Reconciler) root(k dataplane.Key) error {
	h := r.rows[k]
	if h == nil {
		return nil
	}
	if e, ok := errors.AsType[*blockedError](h.outcome.Err); ok {
		return e.root
	}
	return h.outcome.Err
}

type blockedError struct {
	by   dataplane.Key
	root error
}

func (e *blockedError) Error() string {
	text := errBlocked.Error() + " " + e.by.String()
	if e.root != nil {
		text += ": " + e.root.Error()
	}
	return text
}

func (e *blockedError) Is(target error) bool { return target == errBlocked }
func (e *blockedError) Unwrap() error        { return e.root }

// repaired records that an operation was done. A row that had been in place and
// is put back again and again is contended: somebody else wants it otherwise,
// and fighting at full speed helps nobody.
func (r *Reconciler) repaired(op dataplane.Op, now time.Time) {
	key := op.Row.Key()
	if op.Verb == dataplane.Delete {
		delete(r.rows, key)
		return
	}
	if was, ok := r.before.Get(key); !ok || !was.Same(op.Row) {
		delete(r.rows, key) // new or changed by us: no repair
		return
	}
	h := r.history(key)
	h.recent(now)
	h.repairs = append(h.repairs, now)
	if len(h.repairs) <= contentionCount {
		h.outcome = Outcome{}
		return
	}
	o := &h.outcome
	if o.Condition != Contended {
		*o = Outcome{Since: now}
	}
	o.Row, o.Condition, o.Err = op.Row, Contended, errors.New("somebody else keeps changing it: "+op.Why)
	o.Tries++
	o.Next = now.Add(min(firstContention<<min(o.Tries-1, 20), maxBackoff))
}

// outcomes lists the rows that are not simply done, in the order of the tables.
func (r *Reconciler) outcomes() []Outcome {
	var state dataplane.State
	for _, h := range r.rows {
		if h.outcome.Condition != "" {
			state.Add(h.outcome.Row)
		}
	}
	out := make([]Outcome, 0, state.Len())
	for _, row := range state.Rows() {
		out = append(out, r.rows[row.Key()].outcome)
	}
	return out
}

// NextTry returns when the first back-off ends, or the zero time if none runs.
func (r *Reconciler) NextTry() time.Time {
	var next time.Time
	for _, h := range r.rows {
		if t := h.outcome.Next; !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	return next
}
