package kernel

import (
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ovlnet/ovl/internal/dataplane"
)

// linger is how long a container's namespace stays open after it was entered.
// One attachment is half a dozen operations there, each of which would open it
// anew; but an open handle holds a namespace alive that its owner has ended, and
// with it the owner's interfaces.
const linger = 20 * time.Millisecond

// visits are the namespaces of containers that are open just now, guarded by
// Linux.mu.
type visits struct {
	spaces map[dataplane.NS]*space
	end    *time.Timer
}

// find returns an open namespace, if it is the one that ns still names.
func (v *visits) find(ns dataplane.NS) (*space, bool) {
	s, ok := v.spaces[ns]
	if !ok {
		return nil, false
	}
	if isAt(s.file, ns.Path()) {
		return s, true
	}
	s.close()
	delete(v.spaces, ns)
	return nil, false
}

// keep holds a namespace open until expire is called, which it sees to.
func (v *visits) keep(s *space, expire func()) {
	if v.spaces == nil {
		v.spaces = map[dataplane.NS]*space{}
	}
	v.spaces[s.ns] = s
	if v.end == nil {
		v.end = time.AfterFunc(linger, expire)
	}
}

// close closes all that are open.
func (v *visits) close() {
	for _, s := range v.spaces {
		s.close()
	}
	clear(v.spaces)
	if v.end != nil {
		v.end.Stop()
		v.end = nil
	}
}

// expire ends the visits that are over.
func (l *Linux) expire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.visits.close()
}

// close releases what [Linux.enter] opened.
func (s *space) close() {
	s.conn.close()
	_ = s.file.Close()
}

// isAt reports whether path names the namespace that f is.
func isAt(f *os.File, path string) bool {
	var there, here unix.Stat_t
	return unix.Stat(path, &there) == nil && unix.Fstat(int(f.Fd()), &here) == nil && there.Dev == here.Dev && there.Ino == here.Ino
}
