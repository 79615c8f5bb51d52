package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
)

// InitCommand is the first argument with which [Sandbox.Start] runs its own
// binary again. Whoever starts sandboxes calls [Init] when it sees it.
const InitCommand = "sandbox-init"

// initFD is the pipe on which Init tells its parent what went wrong.
const initFD = 3

// maxComplaint bounds what is read from it, in bytes.
const maxComplaint = 4096

// Stdio is what a command reads and writes.
type Stdio struct {
	In       io.Reader
	Out, Err io.Writer
}

// complaint is what Init tells its parent.
type complaint struct {
	Text          string
	NotFound      bool
	NotExecutable bool
}

// Process is the command of a sandbox, started by this process.
type Process struct {
	sandbox Sandbox
	cmd     *exec.Cmd
}

// Start runs argv in the sandbox and returns when it runs. A detached one
// reads nothing, writes to the sandbox's log, and has a session of its own. The
// error wraps [ErrNotFound] or [ErrNotExecutable] if there is no such command.
func (s Sandbox) Start(argv []string, stdio Stdio, detach bool) (*Process, error) {
	cmd := exec.Command("/proc/self/exe", s.initArgs(argv)...) //nolint:noctx // the command outlives whoever starts it
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdio.In, stdio.Out, stdio.Err
	if detach {
		log, err := os.OpenFile(s.LogPath(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			return nil, fmt.Errorf("start command in sandbox %s: %w", s.Name, err)
		}
		defer func() { _ = log.Close() }()
		cmd.Stdin, cmd.Stdout, cmd.Stderr = nil, log, log
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	}
	if err := startChecked(cmd); err != nil {
		return nil, fmt.Errorf("start command in sandbox %s: %w", s.Name, err)
	}
	start, err := startTime(cmd.Process.Pid)
	if err != nil {
		start = 0 // it has ended already, so it is nobody's to signal
	}
	err = s.record(func(st *state) { st.Command, st.PID, st.Start = argv, cmd.Process.Pid, start })
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil, fmt.Errorf("start command in sandbox %s: %w", s.Name, err)
	}
	return &Process{sandbox: s, cmd: cmd}, nil
}

// startChecked starts cmd, an Init, and returns when it has become the user's
// command or has said why not. The pipe closes itself at the exec.
func startChecked(cmd *exec.Cmd) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	cmd.ExtraFiles = []*os.File{w}
	err = cmd.Start()
	_ = w.Close()
	if err != nil {
		return err
	}
	b, err := io.ReadAll(io.LimitReader(r, maxComplaint))
	if err == nil && len(b) == 0 {
		return nil
	}
	_ = cmd.Wait()
	var c complaint
	if json.Unmarshal(b, &c) != nil {
		return fmt.Errorf("its beginning failed: %q", b)
	}
	return c.err()
}

func (c complaint) err() error {
	switch {
	case c.NotFound:
		return &classed{c.Text, ErrNotFound}
	case c.NotExecutable:
		return &classed{c.Text, ErrNotExecutable}
	}
	return errors.New(c.Text)
}

// classed is an error that came through a pipe and kept its class.
type classed struct {
	text  string
	class error
}

func (e *classed) Error() string { return e.text }
func (e *classed) Unwrap() error { return e.class }

// Wait waits for the command and returns its exit code, 128 and the number of
// the signal if one ended it. The sandbox stays, as exited.
func (p *Process) Wait() (int, error) {
	if err := p.cmd.Wait(); err != nil && p.cmd.ProcessState == nil {
		return 0, fmt.Errorf("wait for command in sandbox %s: %w", p.sandbox.Name, err)
	}
	code := p.cmd.ProcessState.ExitCode()
	if ws, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		code = 128 + int(ws.Signal())
	}
	err := p.sandbox.record(func(st *state) { st.Exited, st.ExitCode = true, code })
	if errors.Is(err, ErrMissing) || errors.Is(err, os.ErrNotExist) {
		err = nil // somebody has removed the sandbox: there is nothing to record in
	}
	return code, err
}

// Signal sends sig to the command. One that has ended is no error.
func (p *Process) Signal(sig os.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// PID of the command.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Release forgets a detached command; it runs on.
func (p *Process) Release() error { return p.cmd.Process.Release() }

func (s Sandbox) initArgs(argv []string) []string {
	return append([]string{InitCommand, s.paths.NetNS, s.paths.Etc, s.paths.State, s.Name}, argv...)
}

// Init is what the binary does when its first argument is [InitCommand], with
// the arguments after that: enter the sandbox, become the command. It returns
// only if that failed, and the parent has been told.
func Init(args []string) {
	syscall.CloseOnExec(initFD)
	err := runInit(args)
	b, jerr := json.Marshal(complaint{
		Text:          err.Error(),
		NotFound:      errors.Is(err, ErrNotFound),
		NotExecutable: errors.Is(err, ErrNotExecutable),
	})
	if jerr == nil {
		_, _ = os.NewFile(initFD, "parent").Write(b)
	}
}

func runInit(args []string) error {
	if len(args) < 5 {
		return errors.New("want directories, a name and a command")
	}
	s, err := (Paths{NetNS: args[0], Etc: args[1], State: args[2]}).Sandbox(args[3])
	if err != nil {
		return err
	}
	if err := s.Enter(); err != nil {
		return err
	}
	return Exec(args[4:])
}
