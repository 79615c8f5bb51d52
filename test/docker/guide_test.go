//go:build docker

package docker

import (
	"os"
	"testing"
	"time"

	"github.com/ovlnet/ovl/test/guide"
)

// TestGuide types what docs/guide/docker.md shows.
func TestGuide(t *testing.T) {
	const root = "../.."
	text, err := os.ReadFile(root + "/docs/guide/docker.md")
	if err != nil {
		t.Fatal(err)
	}
	steps, err := guide.Parse(string(text))
	if err != nil {
		t.Fatal(err)
	}
	r := &guide.Reader{Dir: root, Bin: os.Getenv("OVL_BIN_DIR"), Patience: 30 * time.Second}
	defer r.Close()
	down := steps[len(steps)-1] // whatever happens
	defer func() {
		if _, err := r.Do(t.Context(), down); err != nil {
			t.Error(err)
		}
	}()
	for _, s := range steps[:len(steps)-1] {
		if _, err := r.Do(t.Context(), s); err != nil {
			t.Fatalf("docker.md: %v", err)
		}
	}
}
