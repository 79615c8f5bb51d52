package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/identity"
	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// turn is what ovlctl ca status -o json says, as far as tests look.
type turn struct {
	Phase       string
	Authorities []struct{ Fingerprint, State string }
	Laggards    []struct{ Role, Name string }
}

func (s turn) lagging() string {
	var names []string
	for _, l := range s.Laggards {
		names = append(names, l.Role+"/"+l.Name)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// turnUntil waits until the rotation is in that phase and those lag.
func turnUntil(t *testing.T, l *labtest.Lab, phase, lagging string) turn {
	t.Helper()
	var s turn
	labtest.Until(t, "phase "+phase+", lagging: "+lagging, func() error {
		s = turn{}
		l.JSON(t, &s, lab.Control, "ovlctl", "ca", "status", "-o", "json")
		if s.Phase != phase || s.lagging() != lagging {
			return fmt.Errorf("%s, lagging: %s", s.Phase, s.lagging())
		}
		return nil
	})
	return s
}

// joinAs makes a further member of a host's: it joins, and never runs.
func joinAs(t *testing.T, l *labtest.Lab, name, token string) labtest.Result {
	t.Helper()
	return l.Do(t, "h1", "ovl-agent", "join", "--no-start", "--controller", "control", "--state-dir", "/run/"+name, "--name", name, "--token", token)
}

// person returns a person of that name outside, with a context of his own.
func person(t *testing.T, l *labtest.Lab, name string) func(args ...string) labtest.Result {
	t.Helper()
	return func(args ...string) labtest.Result {
		return l.Do(t, lab.Outside, append([]string{"env", "-u", "OVL_CA", "-u", "OVL_CERT", "HOME=/run/" + name, "ovlctl"}, args...)...)
	}
}

// TestRotateCA changes the CA of a cluster while packets flow: none is lost, no agent
// loses what it needs, who was away is told, and comes back.
func TestRotateCA(t *testing.T) {
	t.Parallel()
	l := labtest.Up(t, lab.Config{Hosts: 3})
	l.Run(t, "h1", "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16")
	a, b, c := l.Sandbox(t, "h1", "a", "--network", "blue"), l.Sandbox(t, "h2", "b", "--network", "blue"), l.Sandbox(t, "h3", "c", "--network", "blue")
	complete(t, []labtest.Container{a, b, c})
	token := l.Run(t, "h1", "ovlctl", "token", "create", "--uses", "10")
	ann := person(t, l, "ann")
	if r := ann("login", "--token", l.Run(t, "h1", "ovlctl", "token", "create", "--role", "viewer", "--user", "ann")); r.Code != 0 {
		t.Fatalf("login: %+v", r)
	}
	flow := a.StartPing(t, b.Addr(t))
	if err := l.Cut(t.Context(), "h3", false); err != nil { // it sleeps through everything
		t.Fatal(err)
	}

	l.Run(t, "h1", "ovlctl", "ca", "rotate")
	s := turnUntil(t, l, "spread", "host/h3 viewer/ann")
	old, next := s.Authorities[0].Fingerprint, s.Authorities[1].Fingerprint
	if again := l.Run(t, "h2", "ovlctl", "ca", "rotate", "-o", "json"); !strings.Contains(again, next) {
		t.Errorf("rotate once more: %s", again)
	}
	refused(t, l.Do(t, "h1", "ovlctl", "ca", "finish", "--yes"), conflict, "host h3, viewer ann")
	if r := joinAs(t, l, "x1", token); r.Code != 0 {
		t.Errorf("a token of before, while the next CA is spread: %+v", r)
	}
	if r := ann("network", "ls"); r.Code != 0 {
		t.Errorf("ann: %+v", r)
	}
	turnUntil(t, l, "spread", "host/h3")
	if out := l.Run(t, lab.Outside, "sh", "-c", "grep -c BEGIN.CERT /run/ann/.config/ovl/cluster-ca.pem; stat -c %a /run/ann/.config/ovl/cluster.pem"); out != "2\n600" {
		t.Errorf("ann's roots and mode: %q", out)
	}

	l.Run(t, "h1", "ovlctl", "ca", "finish", "--yes", "--force")
	turnUntil(t, l, "issue", "host/h3 host/x1 viewer/ann")
	if r := joinAs(t, l, "x2", token); r.Code != 0 {
		t.Errorf("a token of before, while the next CA issues: %+v", r)
	}
	if r := ann("network", "ls"); r.Code != 0 {
		t.Errorf("ann: %+v", r)
	}
	turnUntil(t, l, "issue", "host/h3 host/x1")
	refused(t, l.Do(t, "h1", "ovlctl", "ca", "finish", "--yes"), conflict, "2 would be shut out")
	refused(t, l.Do(t, "h1", "ovlctl", "ca", "rotate", "--undo"), conflict, "issued nothing yet")
	l.Run(t, "h1", "ovlctl", "ca", "finish", "--yes", "--force")
	if s := turnUntil(t, l, "rest", ""); len(s.Authorities) != 1 || s.Authorities[0].Fingerprint != next {
		t.Errorf("at the end: %+v", s)
	}

	// Whoever followed goes on.
	if r := ann("whoami", "-o", "json"); r.Code != 0 || !strings.Contains(r.Stdout, next) {
		t.Errorf("ann: %+v", r)
	}
	for _, host := range []string{"h1", "h2"} {
		labtest.Until(t, host+" trusts the next CA alone", func() error {
			if out := l.Run(t, host, "sh", "-c", "grep -c BEGIN.CERT /var/lib/ovl/identity/ca.pem"); out != "1" {
				return errors.New(out)
			}
			return nil
		})
		if r := l.Do(t, host, "ovlctl", "agent", "status"); r.Code != 0 {
			t.Errorf("%s: %+v", host, r)
		}
		if log := l.Run(t, host, "cat", "/var/log/ovl/agent.log"); strings.Contains(log, "connected=false") {
			t.Errorf("%s lost its connection: %s", host, log)
		}
	}
	l.Run(t, "h1", "ovlctl", "network", "create", "red")
	d, e := l.Sandbox(t, "h1", "d", "--network", "red"), l.Sandbox(t, "h2", "e", "--network", "red")
	complete(t, []labtest.Container{d, e})

	// Whoever did not is told why, and comes back with a new token, as who he was.
	refused(t, joinAs(t, l, "x3", token), failed, "has not the CA of the token")
	if err := l.Mend(t.Context(), "h3", false); err != nil {
		t.Fatal(err)
	}
	labtest.Until(t, "h3 says that the CA has changed", func() error {
		if out := l.Do(t, "h3", "ovlctl", "agent", "status").Stdout; !strings.Contains(out, "the cluster has changed its CA while this host was away") {
			return errors.New(out)
		}
		return nil
	})
	key := l.Run(t, "h3", "sh", "-c", "grep -A9 PRIVATE /var/lib/ovl/identity/host.pem")
	l.Run(t, "h3", "ovl-agent", "join", "--no-start", "--controller", "control", "--token", l.Run(t, "h1", "ovlctl", "token", "create", "--host", "h3"))
	if again := l.Run(t, "h3", "sh", "-c", "grep -A9 PRIVATE /var/lib/ovl/identity/host.pem"); again == key {
		t.Error("h3 has joined again with its old key")
	}
	labtest.Until(t, "h3 is whole again", func() error {
		if r := l.Do(t, "h3", "ovlctl", "agent", "status"); r.Code != 0 {
			return errors.New(r.Stdout)
		}
		return nil
	})
	complete(t, []labtest.Container{a, b, c})
	if answered, lost := flow.Stop(t); len(lost) > 0 {
		t.Errorf("%d pings answered, lost: %v", answered, lost)
	}

	// All of it is on disk.
	if err := errors.Join(l.Kill(t.Context(), lab.Control, lab.Controller), l.Start(t.Context(), lab.Control, lab.Controller)); err != nil {
		t.Fatal(err)
	}
	turnUntil(t, l, "rest", "")
	labtest.Until(t, "h1 is back", func() error {
		if r := l.Do(t, "h1", "ovlctl", "agent", "status"); r.Code != 0 {
			return errors.New(r.Stdout)
		}
		return nil
	})
	c2 := &court{Lab: l, t: t}
	if _, err := identity.ParsePrint(old); err != nil {
		t.Fatal(err)
	}
	c2.knock([]intruder{{Name: "a certificate of the CA that was dropped", Pair: []byte(l.Run(t, "h1", "cat", "/run/x1/identity/host.pem")), api: "is of the CA that the cluster dropped at", etcd: "unknown certificate authority"}})
}

// TestUndoRotation: what has issued nothing can be given up.
func TestUndoRotation(t *testing.T) {
	t.Parallel()
	l := labtest.Up(t, lab.Config{Hosts: 1})
	if err := l.Stop(t.Context(), "h1", lab.Agent); err != nil {
		t.Fatal(err)
	}
	first := turnUntil(t, l, "rest", "").Authorities[0].Fingerprint
	l.Run(t, lab.Control, "ovlctl", "ca", "rotate")
	next := turnUntil(t, l, "spread", "host/h1").Authorities[1].Fingerprint
	// A controller that is killed here goes on where it was.
	if err := errors.Join(l.Kill(t.Context(), lab.Control, lab.Controller), l.Start(t.Context(), lab.Control, lab.Controller)); err != nil {
		t.Fatal(err)
	}
	if s := turnUntil(t, l, "spread", "host/h1"); s.Authorities[1].Fingerprint != next {
		t.Errorf("after a restart: %+v, want %s", s, next)
	}
	l.Run(t, lab.Control, "ovlctl", "ca", "rotate", "--undo")
	if s := turnUntil(t, l, "rest", ""); s.Authorities[0].Fingerprint != first {
		t.Errorf("afterwards: %+v, want %s", s, first)
	}
	if out := l.Run(t, lab.Control, "ls", "/var/lib/ovl/identity"); strings.Contains(out, "next") {
		t.Errorf("left behind: %s", out)
	}
	if err := l.Start(t.Context(), "h1", lab.Agent); err != nil {
		t.Fatal(err)
	}
	refused(t, l.Do(t, lab.Control, "ovlctl", "ca", "finish", "--yes"), conflict, "no CA is coming in")
	var own []struct{ Fingerprint string }
	if err := json.Unmarshal([]byte(l.Run(t, lab.Control, "ovlctl", "ca", "ls", "-o", "json")), &own); err != nil || len(own) != 1 {
		t.Errorf("%v, %v", own, err)
	}
}
