package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// The binaries that a lab runs.
const (
	agentBinary      = "ovl-agent"
	controllerBinary = "ovl-controller"
	keeperBinary     = "ovlctl"
)

// tools are the programs that a lab and the agents in it run, with the
// packages that hold them.
var tools = []struct{ program, debian, fedora string }{
	{"ip", "iproute2", "iproute"},
	{"iptables", "iptables", "iptables-nft"},
	{"nsenter", "util-linux", "util-linux"},
}

// binDir returns the absolute directory of the binaries; empty means that of
// the running executable.
func binDir(dir string) (string, error) {
	if dir == "" {
		self, err := os.Executable()
		if err != nil {
			return "", fmt.Errorf("find the directory of the binaries: %w", err)
		}
		dir = filepath.Dir(self)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("find the directory of the binaries: %w", err)
	}
	if d := hides(dir); d != "" {
		return "", fmt.Errorf("binaries in %s: every host of a lab has a %s of its own, which hides them; put them elsewhere", dir, d)
	}
	return dir, nil
}

// preflight says what is missing on this machine, all of it at once.
func (c Config) preflight() error {
	var missing []error
	for _, b := range []string{agentBinary, controllerBinary, keeperBinary} {
		if c.Bare && b != keeperBinary {
			continue
		}
		if _, err := os.Stat(filepath.Join(c.BinDir, b)); err != nil {
			missing = append(missing, fmt.Errorf("find %s beside ovlctl: not in %s; run `make build`", b, c.BinDir))
		}
	}
	return errors.Join(append(missing, missingTools())...)
}

func missingTools() error {
	var programs, debian, fedora []string
	for _, t := range tools {
		if _, err := lookPath(t.program); err == nil {
			continue
		}
		programs, debian, fedora = append(programs, t.program), append(debian, t.debian), append(fedora, t.fedora)
	}
	if len(programs) == 0 {
		return nil
	}
	return fmt.Errorf("find %s: not installed; Debian/Ubuntu: apt install %s; Fedora: dnf install %s",
		strings.Join(programs, ", "), strings.Join(debian, " "), strings.Join(fedora, " "))
}

// sbin is what an ordinary user's PATH often lacks and where iptables is.
const sbin = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"

// lookPath finds a program in PATH or where administrators' programs are.
func lookPath(program string) (string, error) {
	if p, err := exec.LookPath(program); err == nil {
		return p, nil
	}
	for _, dir := range filepath.SplitList(sbin) {
		if p, err := exec.LookPath(filepath.Join(dir, program)); err == nil {
			return p, nil
		}
	}
	return "", exec.ErrNotFound
}

// switches are the settings with which distributions forbid user namespaces,
// the value that forbids, and what to do.
var switches = []struct{ path, forbids, remedy string }{
	{"/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"},
	{"/proc/sys/user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=10000"},
	{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "sysctl kernel.apparmor_restrict_unprivileged_userns=0"},
}

// ErrForbidden is the refusal of this kernel to give an ordinary user
// namespaces.
var ErrForbidden = errors.New("this kernel gives an ordinary user no user namespaces")

// forbidden explains a refused namespace.
func forbidden(err error) error {
	if os.Geteuid() == 0 {
		return err
	}
	for _, s := range switches {
		if v, readErr := os.ReadFile(s.path); readErr == nil && strings.TrimSpace(string(v)) == s.forbids {
			return fmt.Errorf("%w (%w): be root, or once as root: %s", ErrForbidden, err, s.remedy)
		}
	}
	return fmt.Errorf("%w (%w): be root", ErrForbidden, err)
}
