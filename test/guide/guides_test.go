package guide

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ovlnet/ovl/internal/lab/labtest"
	"github.com/ovlnet/ovl/internal/lab/nsexec"
)

var update = flag.Bool("update", false, "write into the guides what their commands print")

// groups are the control groups that runtimes in the guides' labs leave, empty: the
// hierarchy is the machine's.
var groups = []string{"/ovl-lab", "/lxc.pivot", "/libpod_parent"}

func TestMain(m *testing.M) {
	nsexec.MainPID(m, func() error {
		code := labtest.Code(m)
		for _, group := range groups {
			labtest.SweepGroups(group)
		}
		os.Exit(code)
		return nil
	})
}

// root is the root of the tree, seen from here.
const root = "../.."

// TestGuides types each guide that has a session.
func TestGuides(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob(filepath.Join(root, "docs/guide/*.md"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("find the guides: %d of them, %v", len(paths), err)
	}
	for _, path := range append(paths, filepath.Join(root, "README.md")) {
		if filepath.Base(path) == "docker.md" {
			continue // it needs engines: test/docker types it
		}
		t.Run(strings.TrimSuffix(filepath.Base(path), ".md"), func(t *testing.T) {
			t.Parallel()
			follow(t, path)
		})
	}
}

// guidesEnv names which guides are followed: those that need that, or without it
// those that need nothing. targets say which make target sets it.
const guidesEnv = "OVL_GUIDES"

var targets = map[string]string{"runtimes": "test-runtimes"}

// follow types a guide from its beginning to its end. After a step that is not
// as shown the rest means nothing.
func follow(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if need := Needs(string(text)); need != os.Getenv(guidesEnv) {
		if need != "" && targets[need] == "" {
			t.Errorf("%s needs %q, which no make target gives it", path, need)
		}
		return // the other target's
	}
	steps, err := Parse(string(text))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	r := &Reader{Dir: root, Bin: os.Getenv("OVL_BIN_DIR"), Patience: 30 * time.Second}
	if *update {
		r.Patience = time.Second
	}
	defer r.Close()
	changed := map[int]Outcome{}
	rootless := nsexec.Rootless()
	for _, s := range steps {
		if s.Root != "" && rootless {
			if os.Getenv("CI") == "true" {
				t.Errorf("%s: line %d is left out, which CI=true forbids: run as root, since %s", path, s.Line, s.Root)
			}
			t.Logf("%s: line %d is left out: only root can run it, since %s", path, s.Line, s.Root)
			continue
		}
		o, err := r.Do(t.Context(), s)
		if err != nil && *update {
			changed[s.Line] = o
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
	if len(changed) > 0 {
		if err := os.WriteFile(path, []byte(Rewrite(string(text), changed, steps)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDemo runs what `make demo` runs, and then what README says to try next.
func TestDemo(t *testing.T) {
	t.Parallel()
	if os.Getenv(guidesEnv) != "" {
		return // it is `make test`'s
	}
	bin := os.Getenv("OVL_BIN_DIR")
	run := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
		cmd.Dir, cmd.Env = root, environment(os.Environ(), bin)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	run("./deploy/demo.sh", bin)
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	tried := 0
	for line := range strings.Lines(string(text)) {
		args := strings.Fields(line)
		if len(args) == 0 || args[0] != "bin/ovlctl" || args[len(args)-1] == "bash" {
			continue
		}
		tried++
		run(append([]string{filepath.Join(bin, "ovlctl")}, args[1:]...)...)
	}
	if tried < 3 {
		t.Errorf("README says %d things to try after the demo", tried)
	}
}
