package sandbox

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// startTime returns when a process began, in clock ticks since boot, or an
// error if there is none of that PID or it has ended and only waits for its
// parent.
func startTime(pid int) (uint64, error) {
	b, err := readBounded(filepath.Join("/proc", strconv.Itoa(pid), "stat"), 8<<10)
	if err != nil {
		return 0, err
	}
	return parseStat(string(b))
}

// parseStat reads fields 3 and 22 of /proc/PID/stat (proc_pid_stat(5)). Field
// 2, the name, stands in parentheses and may hold any character, so counting
// begins after the last one.
func parseStat(text string) (uint64, error) {
	i := strings.LastIndexByte(text, ')')
	if i < 0 {
		return 0, errors.New("read /proc/PID/stat: no name in it")
	}
	fields := strings.Fields(text[i+1:])
	if len(fields) < 20 {
		return 0, fmt.Errorf("read /proc/PID/stat: only %d fields", len(fields)+2)
	}
	switch fields[0] {
	case "Z", "X", "x":
		return 0, errors.New("read /proc/PID/stat: the process has ended")
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

// nsID identifies a namespace: its inode on nsfs (ioctl_ns(2)).
type nsID struct{ dev, ino uint64 }

func namespaceID(path string) (nsID, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return nsID{}, err
	}
	return nsID{dev: st.Dev, ino: st.Ino}, nil
}

// isNamespace reports whether a namespace is mounted on path. The plain file
// that an unmount leaves behind is none.
func isNamespace(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == unix.NSFS_MAGIC
}

// Processes returns the PIDs of what runs in the sandbox. A process in its
// network namespace but in our own mount namespace does not count: that may be
// the agent, which goes in and out, or somebody's nsenter.
func (s Sandbox) Processes() ([]int, error) {
	m, err := s.membership()
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("find processes of sandbox %s: %w", s.Name, err)
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err == nil && m.holds(pid) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// membership tells which processes are in the sandbox.
type membership struct {
	shares bool // somebody else's network namespace, so that it proves nothing
	net    nsID // that of the sandbox; zero if it is gone
	mount  nsID // our own
	main   state
	marks  map[nsID]bool // files of the sandbox
	others map[nsID]bool // files of the other sandboxes: they may be in its network namespace
}

func (s Sandbox) membership() (membership, error) {
	st, err := s.read()
	if err != nil {
		return membership{}, err
	}
	m := membership{main: st, shares: st.Mode != "", marks: s.marks(), others: map[nsID]bool{}}
	if isNamespace(s.NetNS()) {
		if m.net, err = namespaceID(s.NetNS()); err != nil {
			return membership{}, fmt.Errorf("find processes of sandbox %s: %w", s.Name, err)
		}
	}
	if m.mount, err = namespaceID("/proc/self/ns/mnt"); err != nil {
		return membership{}, fmt.Errorf("find processes of sandbox %s: %w", s.Name, err)
	}
	names, err := s.paths.List()
	if err != nil {
		return membership{}, err
	}
	for _, name := range names {
		if name != s.Name {
			maps.Copy(m.others, Sandbox{Name: name, paths: s.paths}.marks())
		}
	}
	return m, nil
}

// holds reports whether the process is the sandbox's. One that we may not look
// at is not: root may look at all of its own.
func (m membership) holds(pid int) bool {
	if pid == m.main.PID && m.main.alive() {
		return true
	}
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	net, err := namespaceID(filepath.Join(dir, "ns/net"))
	if err != nil || m.net == (nsID{}) || net != m.net {
		return false
	}
	mount, err := namespaceID(filepath.Join(dir, "ns/mnt"))
	if err != nil || mount == m.mount {
		return false
	}
	if m.shares {
		return marked(dir, m.marks)
	}
	return !marked(dir, m.others)
}

// marked reports whether the process of that directory in /proc sees one of the
// files in /etc.
func marked(dir string, files map[nsID]bool) bool {
	for _, name := range markFiles {
		if id, err := namespaceID(filepath.Join(dir, "root/etc", name)); err == nil && files[id] {
			return true
		}
	}
	return false
}
