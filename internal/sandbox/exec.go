package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"syscall"
)

// ErrNotExecutable and ErrNotFound are the two ways in which there is no such
// command.
var (
	ErrNotFound      = errors.New("command not found")
	ErrNotExecutable = errors.New("command cannot be executed")
)

// LookPath returns the file that argv[0] names. The error wraps [ErrNotFound]
// or [ErrNotExecutable].
func LookPath(name string) (string, error) {
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
		return path, nil
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EISDIR):
		return "", fmt.Errorf("%s: %w", name, ErrNotExecutable)
	case errors.Is(err, exec.ErrDot):
		return "", fmt.Errorf("%s: %w: it is in the working directory; say ./%s", name, ErrNotFound, name)
	default:
		return "", fmt.Errorf("%s: %w", name, ErrNotFound)
	}
}

// Exec replaces the process by the command: it returns only with an error.
// All other threads end; the namespaces of the calling one stay.
func Exec(argv []string) error {
	path, err := LookPath(argv[0])
	if err != nil {
		return err
	}
	err = syscall.Exec(path, argv, os.Environ())
	if errors.Is(err, syscall.ENOENT) { // of a script: the interpreter is missing
		return fmt.Errorf("%s: %w: its interpreter is missing", argv[0], ErrNotFound)
	}
	return fmt.Errorf("%s: %w: %w", argv[0], ErrNotExecutable, err)
}
