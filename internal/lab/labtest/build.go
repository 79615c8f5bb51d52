package labtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// binariesEnv names a directory of binaries that are built already; without it
// [Main] builds them and sets it.
const binariesEnv = "OVL_BIN_DIR"

// Main builds the binaries, runs m's tests and exits with their code.
func Main(m *testing.M) { os.Exit(Code(m)) }

// Code builds the binaries, runs m's tests and returns their code, for a package
// that has something to put away itself.
func Code(m *testing.M) int {
	if code, is := Program(); is {
		return code
	}
	dir, remove, err := build(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer remove()
	if err := os.Setenv(binariesEnv, dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// Binary returns the path of one of the binaries.
func Binary(name string) string { return filepath.Join(os.Getenv(binariesEnv), name) }

// packages are the programs of the tree and what they are called.
var packages = map[string]string{
	"ovlctl":         "./ovlctl",
	"ovl-agent":      "./node-agent/cmd/ovl-agent",
	"ovl-controller": "./controller/cmd/ovl-controller",
	"ovl-cni":        "./node-agent/cmd/ovl-cni",
}

// build builds the binaries and returns where, and what removes them.
func build(ctx context.Context) (dir string, remove func(), err error) {
	if dir := os.Getenv(binariesEnv); dir != "" {
		dir, err := filepath.Abs(dir)
		return dir, func() {}, err
	}
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", nil, fmt.Errorf("find the module: %w", err)
	}
	if dir, err = os.MkdirTemp("", "ovl-bin"); err != nil {
		return "", nil, fmt.Errorf("make directory of binaries: %w", err)
	}
	remove = func() { _ = os.RemoveAll(dir) }
	for name, pkg := range packages {
		cmd := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(dir, name), pkg)
		cmd.Dir = strings.TrimSpace(string(root))
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			remove()
			return "", nil, fmt.Errorf("build %s: %w: %s", name, err, out)
		}
	}
	return dir, remove, nil
}
