package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"
)

// state is what is kept of a sandbox, in a file beside its log.
type state struct {
	Mode     Mode      `json:"mode,omitempty"`
	Wish     Wish      `json:"wish,omitzero"`
	Command  []string  `json:"command,omitempty"`
	PID      int       `json:"pid,omitempty"`
	Start    uint64    `json:"start,omitempty"` // of the process, in clock ticks since boot: with it a PID is unique
	Exited   bool      `json:"exited,omitempty"`
	ExitCode int       `json:"exitCode,omitempty"`
	Created  time.Time `json:"created"`
}

// maxState bounds the file, in bytes: an argument list is 2 MiB at most
// (execve(2)), and JSON may write a byte in six.
const maxState = 12 << 20

// Phase is how far a sandbox is.
type Phase string

// The phases.
const (
	Idle    Phase = "idle"    // has no command and just stays
	Running Phase = "running" // its command runs
	Exited  Phase = "exited"  // its command has ended
	Gone    Phase = "gone"    // its network namespace has vanished
)

// Status is what is known of a sandbox.
type Status struct {
	Phase    Phase
	Command  []string
	PID      int // while it runs
	ExitCode *int
	Created  time.Time
	Mode     Mode
}

// Status returns what is known of the sandbox. The exit code of a detached
// command is not: nobody of ours waits for it.
func (s Sandbox) Status() (Status, error) {
	st, err := s.read()
	if err != nil {
		return Status{}, err
	}
	out := Status{Phase: Idle, Command: st.Command, Created: st.Created, Mode: st.Mode}
	switch {
	case !isNamespace(s.NetNS()):
		out.Phase = Gone
	case st.alive():
		out.Phase, out.PID = Running, st.PID
	case len(st.Command) > 0:
		out.Phase = Exited
	}
	if st.Exited {
		out.ExitCode = &st.ExitCode
	}
	return out, nil
}

func (st state) alive() bool {
	if st.PID == 0 || st.Start == 0 || st.Exited {
		return false
	}
	start, err := startTime(st.PID)
	return err == nil && start == st.Start
}

func (s Sandbox) statePath() string { return filepath.Join(s.dir(), "state.json") }

// read returns the state; before the first record it is empty.
func (s Sandbox) read() (state, error) {
	if !s.Exists() {
		return state{}, fmt.Errorf("sandbox %s: %w", s.Name, ErrMissing)
	}
	b, err := readBounded(s.statePath(), maxState)
	if errors.Is(err, fs.ErrNotExist) {
		return state{}, nil
	}
	if err != nil {
		return state{}, fmt.Errorf("read state of sandbox %s: %w", s.Name, err)
	}
	st, err := parseState(b)
	return st, wrap("read state of sandbox "+s.Name, err)
}

func parseState(b []byte) (state, error) {
	var st state
	if err := json.Unmarshal(b, &st); err != nil {
		return state{}, err
	}
	if st.PID < 0 {
		return state{}, fmt.Errorf("PID %d is negative", st.PID)
	}
	return st, nil
}

// record changes the state. It never makes the directory: a sandbox that was
// removed meanwhile stays so.
func (s Sandbox) record(change func(*state)) error {
	st, err := s.read()
	if err != nil {
		return err
	}
	change(&st)
	b, err := json.Marshal(st)
	if err != nil {
		return err
	}
	return wrap("record state of sandbox "+s.Name, writeFile(s.statePath(), b))
}
