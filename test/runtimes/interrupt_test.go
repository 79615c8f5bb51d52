//go:build runtimes

package runtimes

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/lab/labtest"
	"github.com/ovlnet/ovl/test/containerd"
)

// namespaces returns how many network namespaces of pods a host has.
func (c cri) namespaces(t *testing.T) int {
	t.Helper()
	return strings.Count(c.Run(t, c.host, "ip", "netns")+"\n", "cni-")
}

// interrupted asks for a pod and has the agent killed once its namespace is there. It
// returns whether the pod came to be all the same.
func (c cri) interrupted(t *testing.T, config object) (came bool) {
	t.Helper()
	had := c.namespaces(t)
	raw, err := json.Marshal(object{"config": config})
	if err != nil {
		t.Fatal(err)
	}
	cmd, err := c.Command(t.Context(), c.host, os.Getenv(criEnv), containerd.Socket, "RunPodSandbox", string(raw))
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	labtest.Until(t, "the pod has a namespace", func() error {
		if n := c.namespaces(t); n == had {
			return fmt.Errorf("%d namespaces", n)
		}
		return nil
	})
	if err := c.Kill(t.Context(), c.host, "agent"); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Logf("without an agent: %s", &stderr)
		return false
	}
	return true
}
