package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrNotFound is the absence of a lab or of a host in it.
var ErrNotFound = errors.New("not found")

// ErrExists is a lab of that name that is up.
var ErrExists = errors.New("already up")

// record is what a lab leaves on disk: where its keeper is. A PID alone is no
// proof, since numbers are used again; with the start time it is.
type record struct {
	Config  Config `json:"config"`
	Keeper  int    `json:"keeper"`  // PID, as seen by who started the lab
	Started uint64 `json:"started"` // of the keeper, in clock ticks since boot
	User    bool   `json:"user"`    // the lab has a user namespace of its own
	Hosts   []Host `json:"hosts"`
}

// Host is one host of a lab.
type Host struct {
	Name    string `json:"name"`
	Address string `json:"address"` // on the underlay
	PID     int    `json:"pid"`     // of the process that holds its namespaces, in the lab's PID namespace
}

// The files in the directory of a lab.
const (
	recordFile = "lab.json"
	socketFile = "keeper.sock"
	logFile    = "keeper.log"
)

// DefaultRoot returns the directory in which this user's labs are recorded.
func DefaultRoot() (string, error) {
	if os.Geteuid() == 0 {
		return "/run/ovl-lab", nil
	}
	if d := os.Getenv("XDG_RUNTIME_DIR"); d != "" {
		return filepath.Join(d, "ovl-lab"), nil
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("ovl-lab-%d", os.Getuid())), nil
}

// makeRoot makes the directory of labs, which must be this user's alone:
// whoever can write there could have us signal any process of ours.
func makeRoot(root string) error {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return fmt.Errorf("make directory of labs: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(root, &st); err != nil {
		return fmt.Errorf("examine directory of labs %s: %w", root, err)
	}
	if int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return fmt.Errorf("use directory of labs %s: somebody else can write there; remove it", root)
	}
	return nil
}

// dir is the directory of the lab.
func (c Config) dir() string { return filepath.Join(c.Root, c.Name) }

// save writes the record so that a reader sees all of it or nothing.
func (r record) save() error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode record of lab %s: %w", r.Config.Name, err)
	}
	path := filepath.Join(r.Config.dir(), recordFile)
	if err := os.WriteFile(path+".new", append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("write record of lab %s: %w", r.Config.Name, err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write record of lab %s: %w", r.Config.Name, err)
	}
	return nil
}

// load reads the record of a lab; [ErrNotFound] if there is none.
func load(root, name string) (record, error) {
	var r record
	if !dnsLabel.MatchString(name) {
		return r, fmt.Errorf("name of lab %q: %w: want 1 to 63 of a-z, 0-9 and -", name, ErrInvalid)
	}
	data, err := os.ReadFile(filepath.Join(root, name, recordFile))
	if errors.Is(err, fs.ErrNotExist) {
		return r, fmt.Errorf("find lab %s: %w; make it with `ovlctl lab up --name %s`", name, ErrNotFound, name)
	}
	if err != nil {
		return r, fmt.Errorf("read record of lab %s: %w", name, err)
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return r, fmt.Errorf("read record of lab %s: %w", name, err)
	}
	r.Config.Root, r.Config.Name = root, name
	return r, nil
}

// keeper returns a descriptor of the keeper's process, which the caller
// closes. ok is false if that process has ended; its number may be another's
// by now, and the descriptor is taken before the start time is compared, so
// that it cannot become another's in between.
func (r record) keeper() (pidfd int, ok bool) {
	if r.Keeper <= 1 {
		return -1, false
	}
	pidfd, err := unix.PidfdOpen(r.Keeper, 0)
	if err != nil {
		return -1, false
	}
	started, err := startTime(r.Keeper)
	if err != nil || started != r.Started {
		_ = unix.Close(pidfd)
		return -1, false
	}
	return pidfd, true
}

// alive reports whether the lab is up.
func (r record) alive() bool {
	pidfd, ok := r.keeper()
	if ok {
		_ = unix.Close(pidfd)
	}
	return ok
}

// startTime returns when a process started, in clock ticks since boot:
// field 22 of proc_pid_stat(5). A zombie has ended and is an error.
func startTime(pid int) (uint64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("read start time of process %d: %w", pid, err)
	}
	return parseStat(string(data))
}

// parseStat finds the start time in a line of /proc/PID/stat. The second field
// is a name that may hold spaces and parentheses: the last ) ends it.
func parseStat(stat string) (uint64, error) {
	i := strings.LastIndexByte(stat, ')')
	fields := strings.Fields(stat[i+1:])
	const state, started = 0, 22 - 3
	if i < 0 || len(fields) <= started {
		return 0, fmt.Errorf("parse start time: %d fields after the name, want more than %d", len(fields), started)
	}
	if fields[state] == "Z" || fields[state] == "X" {
		return 0, errors.New("parse start time: the process has ended")
	}
	n, err := strconv.ParseUint(fields[started], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("parse start time: %w", err)
	}
	return n, nil
}
