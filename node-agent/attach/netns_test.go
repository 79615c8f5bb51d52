package attach

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestNetNSCheck(t *testing.T) {
	check, err := NetNSCheck(func(*os.File) (string, error) { return "boot-7", nil })
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file, pipe := filepath.Join(dir, "file"), filepath.Join(dir, "pipe")
	if err := os.WriteFile(file, nil, 0o600); err != nil { // what is left of an unmounted one
		t.Fatal(err)
	}
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(dir, "nothing"), filepath.Join(file, "below"), file, pipe, dir, "/proc/self/ns/mnt"} {
		if _, err := check(path); !errors.Is(err, errNoNamespace) {
			t.Errorf("%s: %v, want %v", path, err, errNoNamespace)
		}
	}
	if _, err := check("/proc/self/ns/net"); err == nil || errors.Is(err, errNoNamespace) {
		t.Errorf("the host's own: %v, want a refusal that says so", err)
	}
	theirs := stranger(t)
	link := filepath.Join(dir, "link")
	if err := os.Symlink(theirs, link); err != nil {
		t.Fatal(err)
	}
	// However one gets there, the number of the process may be another's one day.
	for _, path := range []string{theirs, link} {
		if pin, err := check(path); err != nil || pin != "boot-7" {
			t.Errorf("a process's at %s: pin %q, %v", path, pin, err)
		}
	}
}

// stranger returns the path of another network namespace.
func stranger(t *testing.T) string {
	t.Helper()
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}, GidMappings: []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}},
	}
	if err := cmd.Start(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("no user namespaces: %v", err)
		}
		t.Skipf("no user namespaces here: %v", err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	return fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid)
}
