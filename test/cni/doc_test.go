// Package cni runs ovl-cni as container runtimes do: by cnitool, beside and in
// chains with the reference plugins, on the hosts of a lab. Nothing in it is a fake.
//
// cnitool and the reference plugins are built from reference/go.mod, so that ovl's
// own go.mod does not grow by them.
package cni

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// pluginsEnv names the directory in which [TestMain] has put the plugins.
const pluginsEnv = "OVL_CNI_PLUGINS"

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "ovl-cni")
	if err == nil {
		err = buildReference(context.Background(), dir)
	}
	if err == nil {
		err = os.Setenv(pluginsEnv, dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := labtest.Code(m)
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// buildReference builds cnitool and the reference plugins into dir.
func buildReference(ctx context.Context, dir string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-C", "reference", "-o", dir+string(filepath.Separator), "tool")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the reference plugins: %w: %s", err, out)
	}
	return nil
}
