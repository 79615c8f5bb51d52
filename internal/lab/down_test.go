package lab

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestDownLeavesNothing(t *testing.T) {
	t.Parallel()
	l := up(t, Config{Hosts: 2})
	if l.record.Keeper == 0 || !l.Alive() {
		t.Fatal("the lab that is up is not alive")
	}
	inside := namespace(t, l)
	must(t, l.Down(t.Context()))
	if l.Alive() {
		t.Error("the lab lives after Down")
	}
	if _, err := os.Stat(l.record.Config.Root); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory of labs after Down: %v, want none", err)
	}
	if pids := processesIn(t, inside); len(pids) > 0 {
		t.Errorf("processes %v are left in the lab's PID namespace", pids)
	}
}

func TestACrashedLabIsNoticedAndReplaced(t *testing.T) {
	t.Parallel()
	root := shortDir(t)
	l := up(t, Config{Hosts: 1, Bare: true, Root: root})
	if _, err := Up(t.Context(), l.Config(), nil); !errors.Is(err, ErrExists) {
		t.Fatalf("a second lab of that name: %v, want %v", err, ErrExists)
	}
	must(t, l.record.kill(t.Context()))
	labs, err := List(t.Context(), root)
	must(t, err)
	if len(labs) != 1 || labs[0].Alive() {
		t.Errorf("labs after a crash: %v, want one that is not alive", labs)
	}
	if _, err := l.Exec(t.Context(), "h1", "true"); err == nil || !strings.Contains(err.Error(), "lab down") {
		t.Errorf("exec in a crashed lab: %v, want what to do", err)
	}
	again, err := Up(t.Context(), l.Config(), nil)
	must(t, err)
	must(t, again.Down(t.Context()))
}

func TestARecordOfAnotherProcessIsNotAlive(t *testing.T) {
	t.Parallel()
	started, err := startTime(os.Getpid())
	must(t, err)
	r := record{Keeper: os.Getpid(), Started: started}
	if !r.alive() {
		t.Error("this process is not alive")
	}
	r.Started++
	if r.alive() {
		t.Error("a process with the same number and another start time passes for the keeper")
	}
}

func TestTheLabEndsWithWhoMadeIt(t *testing.T) {
	t.Parallel()
	l := up(t, Config{Hosts: 1, Bare: true})
	pidfd, ok := l.record.keeper()
	if !ok {
		t.Fatal("no keeper")
	}
	defer unix.Close(pidfd)
	must(t, l.tether.Close())
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := awaitExit(ctx, pidfd); err != nil {
		t.Errorf("after the tether is cut: %v", err)
	}
}

func TestUpThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	l := up(t, Config{Hosts: 1, Bare: true}) // for its directory of binaries
	c := l.Config()
	c.Root, c.Bare, c.ControllerArgs = shortDir(t), false, []string{"--no-such-flag"}
	_, err := Up(t.Context(), c, nil)
	if err == nil || !strings.Contains(err.Error(), "no-such-flag") {
		t.Fatalf("up with a flag that the controller does not know: %v, want its words", err)
	}
	if _, err := os.Stat(c.Root); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory of labs after a failed Up: %v, want none", err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]Config{
		"no hosts":       {},
		"too many hosts": {Hosts: MaxHosts + 1},
		"small MTU":      {Hosts: 1, MTU: MinMTU - 1},
		"name":           {Hosts: 1, Name: "../etc"},
	} {
		if _, err := Up(t.Context(), c, nil); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v, want %v", name, err, ErrInvalid)
		}
	}
	c := Config{Hosts: 1, BinDir: t.TempDir(), Root: shortDir(t)}
	if _, err := Up(t.Context(), c, nil); err == nil || !strings.Contains(err.Error(), "make build") {
		t.Errorf("no binaries: %v, want what to do", err)
	}
}

// namespace returns the identity of the lab's PID namespace.
func namespace(t *testing.T, l *Lab) string {
	t.Helper()
	return run(t, l, "h1", "readlink", "/proc/self/ns/pid")
}

// processesIn returns the processes in a PID namespace.
func processesIn(t *testing.T, ns string) []string {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/ns/pid")
	must(t, err)
	var in []string
	for _, link := range links {
		if got, err := os.Readlink(link); err == nil && got == ns {
			in = append(in, link)
		}
	}
	return in
}
