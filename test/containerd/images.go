package containerd

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/image"
)

// Images makes the archives of [Pause] and [Busybox] and returns where they are.
// A lab's hosts see the machine's /tmp.
func Images(tb testing.TB) []string {
	tb.Helper()
	dir := tb.TempDir()
	peer := filepath.Join(dir, "peer")
	build := exec.CommandContext(tb.Context(), "go", "build", "-o", peer, "github.com/ovlnet/ovl/test/containerd/peer")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		tb.Fatalf("build peer: %v: %s", err, out)
	}
	return []string{
		write(tb, dir, image.Image{Name: Pause, Entrypoint: []string{"/peer"}, Files: []image.File{{Path: "/peer", From: peer}}}),
		write(tb, dir, image.Image{Name: Busybox, Entrypoint: []string{"/bin/sh"}, Env: []string{"PATH=/bin"}, Files: append(applets(tb), image.File{Path: "/bin/peer", From: peer})}),
	}
}

// applets returns the machine's busybox under all of its names.
func applets(tb testing.TB) []image.File {
	tb.Helper()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		tb.Fatal(err)
	}
	names, err := exec.CommandContext(tb.Context(), busybox, "--list").Output()
	if err != nil {
		tb.Fatal(err)
	}
	files := []image.File{{Path: "/bin/busybox", From: busybox}}
	for name := range strings.FieldsSeq(string(names)) {
		if name != "busybox" {
			files = append(files, image.File{Path: "/bin/" + name, Link: "busybox"})
		}
	}
	return files
}

func write(tb testing.TB, dir string, i image.Image) string {
	tb.Helper()
	i.Arch = runtime.GOARCH
	name, _, _ := strings.Cut(filepath.Base(i.Name), ":")
	f, err := os.Create(filepath.Join(dir, name+".tar"))
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	if err := i.Write(f); err != nil {
		tb.Fatal(err)
	}
	return f.Name()
}
