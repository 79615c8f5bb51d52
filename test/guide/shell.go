package guide

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
)

// shell is a shell that waits for commands. It lives until its input ends.
type shell struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// startShell starts argv, which must end up as a bash.
func startShell(ctx context.Context, dir string, env []string, argv ...string) (*shell, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = dir, env
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start shell: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start shell: %w", err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start shell: %w", err)
	}
	return &shell{cmd, in, bufio.NewReader(out)}, nil
}

// mark ends what a command printed; its exit code follows. No command of a
// guide prints a record separator.
const mark = '\x1e'

// run types a command and waits until it is done.
func (s *shell) run(command string) (Outcome, error) {
	quoted := "'" + strings.ReplaceAll(command, "'", `'\''`) + "'"
	if _, err := fmt.Fprintf(s.in, "eval %s </dev/null; printf '\\036%%d\\n' $?\n", quoted); err != nil {
		return Outcome{}, fmt.Errorf("type %s: %w", command, err)
	}
	printed, err := s.out.ReadString(mark)
	if err != nil {
		return Outcome{}, fmt.Errorf("read what %s prints: the shell has ended: %w; it said %s", command, err, printed)
	}
	code, err := s.out.ReadString('\n')
	if err != nil {
		return Outcome{}, fmt.Errorf("read exit code of %s: %w", command, err)
	}
	o := Outcome{Printed: strings.TrimSuffix(printed, string(mark))}
	o.Code, err = strconv.Atoi(strings.TrimSpace(code))
	return o, err
}

// close ends the shell. It does not wait for the end of what the shell prints:
// a background job may hold that open for as long as its lab lives.
func (s *shell) close() {
	_ = s.in.Close()
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait() // killed
}
