package integration

import (
	"errors"
	"os/exec"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// pairOf is what a host shows of itself.
const pairOf = "/var/lib/ovl/identity/host.pem"

// keyIn returns the private key in a file on a host.
func keyIn(t *testing.T, l *labtest.Lab, host, path string) string {
	t.Helper()
	return l.Run(t, host, "sh", "-c", "grep -A9 PRIVATE "+path)
}

// TestExpiredHost: a host that was off for longer than its certificate lives says so,
// and comes back with a token as who it was, with a new key. What was copied of its
// disk before is worth nothing then, nor is it without a token.
func TestExpiredHost(t *testing.T) {
	t.Parallel()
	l := labtest.Up(t, lab.Config{Hosts: 3, ControllerArgs: []string{"--cert-lifetime", "8s"}})
	token := func(host string) string {
		return l.Run(t, lab.Control, "ovlctl", "token", "create", "--host", host)
	}
	join := func(host, token string) labtest.Result {
		return l.Do(t, host, "ovl-agent", "join", "--no-start", "--controller", "control", "--token", token)
	}
	ids := map[string]string{}
	for _, host := range []string{"h2", "h3"} {
		if err := l.Stop(t.Context(), host, lab.Agent); err != nil {
			t.Fatal(err)
		}
		ids[host] = l.Run(t, host, "cat", "/var/lib/ovl/host-id")
		l.Run(t, host, "cp", pairOf, "/run/stolen.pem")
	}
	l.Run(t, lab.Control, "ovlctl", "host", "rm", "--force", "--yes", "h3")
	asStolen := func(host string) labtest.Result {
		return l.Do(t, host, "ovlctl", "--ca", "/var/lib/ovl/identity/ca.pem", "--cert", "/run/stolen.pem", "whoami")
	}
	labtest.Until(t, "the certificates have expired", func() error {
		for _, host := range []string{"h2", "h3"} {
			if r := asStolen(host); !strings.Contains(r.Stderr, "expired at") {
				return errors.New(host + ": " + r.Stderr)
			}
		}
		return nil
	})

	// The agent's own view.
	cmd, err := l.Command(t.Context(), "h2", "ovl-agent")
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	labtest.Until(t, "h2 says that its certificate has expired", func() error {
		if out := l.Do(t, "h2", "ovlctl", "agent", "status").Stdout; !strings.Contains(out, "its certificate expired at") {
			return errors.New(out)
		}
		return nil
	})

	for host, other := range map[string]string{"h2": "h3", "h3": "h2"} {
		refused(t, join(host, token(other)), failed, "for host "+other+" alone")
		if r := join(host, token(host)); r.Code != 0 {
			t.Fatalf("%s joins again: %+v", host, r)
		}
		if keyIn(t, l, host, pairOf) == keyIn(t, l, host, "/run/stolen.pem") {
			t.Errorf("%s has joined again with its old key", host)
		}
		if id := l.Run(t, host, "cat", "/var/lib/ovl/host-id"); id != ids[host] {
			t.Errorf("%s is another host now: %s, before %s", host, id, ids[host])
		}
		refused(t, asStolen(host), failed, "expired at")
	}
	// The agent that ran all the time finds what the join has left.
	labtest.Until(t, "h2 is whole again", func() error {
		if r := l.Do(t, "h2", "ovlctl", "agent", "status"); r.Code != 0 {
			return errors.New(r.Stdout)
		}
		return nil
	})
	if err := errors.Join(lab.Interrupt(cmd), ended(cmd), l.Start(t.Context(), "h2", lab.Agent), l.Start(t.Context(), "h3", lab.Agent)); err != nil {
		t.Error(err)
	}
	l.Run(t, lab.Control, "ovlctl", "host", "inspect", "h3")
}

// ended waits until a command has ended that was told to.
func ended(cmd *exec.Cmd) error {
	err := cmd.Wait()
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil
	}
	return err
}
