package integration

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// event is what a script sees of one, in ovlctl events and in the log.
type event struct {
	Number, Controller, Who, From, Action, What, Outcome, Reason string
	Time                                                         time.Time
	Before, After                                                map[string]any
}

func (e event) String() string {
	return strings.Join([]string{e.Who, e.Action, e.What, e.Outcome}, "|")
}

const auditLog = "/var/lib/ovl/audit.log"

// logged returns the events in a file on the controller's host.
func logged(t *testing.T, l *labtest.Lab, file string) []event {
	t.Helper()
	var all []event
	for line := range strings.Lines(l.Run(t, lab.Control, "cat", file)) {
		var e event
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Action == "" || e.Outcome == "" || e.Time.IsZero() {
			t.Fatalf("%s: line %.200q: %v", file, line, err)
		}
		all = append(all, e)
	}
	return all
}

// TestAudit: what is done and what is refused is in the log and in ovlctl events,
// with who did it, from where, and what it was before and after; no secret is.
func TestAudit(t *testing.T) {
	t.Parallel()
	l := labtest.Up(t, lab.Config{Hosts: 1, Idle: true})
	h1, outside := addressOf(t, l, "h1").String(), addressOf(t, l, lab.Outside).String()
	ann := func(args ...string) labtest.Result {
		return l.Do(t, lab.Outside, append([]string{"env", "-u", "OVL_CA", "-u", "OVL_CERT", "HOME=/run", "ovlctl"}, args...)...)
	}
	l.Run(t, "h1", "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16", "--mtu", "1400")
	l.Run(t, "h1", "ovlctl", "network", "update", "blue", "--mtu", "1380")
	token := l.Run(t, "h1", "ovlctl", "token", "create", "--role", "viewer", "--user", "ann")
	if r := ann("login", "--token", token); r.Code != 0 {
		t.Fatalf("login: %+v", r)
	}
	refused(t, ann("network", "rm", "--yes", "blue"), failed, "ask for admin or operator")
	refused(t, ann("events"), failed, "ask for admin")
	refused(t, ann("events", "--follow"), failed, "ask for admin")
	refused(t, l.Do(t, "h1", "ovlctl", "events", "--tail", "-1"), usage, "--tail -1")
	l.Run(t, "h1", "ovlctl", "network", "rm", "--yes", "blue")

	id := strings.Split(token, "-")[1]
	want := []struct{ line, from, before, after string }{
		{"admin local|CreateNetwork|network blue|OK", h1, "", "1400"},
		{"admin local|UpdateNetwork|network blue|OK", h1, "1400", "1380"},
		{"admin local|CreateToken|token " + id + "|OK", h1, "", "viewer"},
		{"token " + id + "|Join|viewer ann|OK", outside, "", "ann"},
		{"viewer ann|DeleteNetwork|network blue|PERMISSION_DENIED", outside, "", ""},
		{"viewer ann|ListEvents||PERMISSION_DENIED", outside, "", ""},
		{"viewer ann|ListEvents||PERMISSION_DENIED", outside, "", ""},
		{"admin local|DeleteNetwork|network blue|OK", h1, "1380", ""},
	}
	var shown []event
	l.JSON(t, &shown, "h1", "ovlctl", "events", "-o", "json")
	for name, all := range map[string][]event{"ovlctl events": shown, "the log": logged(t, l, auditLog)} {
		all = all[max(0, len(all)-len(want)):] // the lab began with some
		for i, w := range want {
			if i >= len(all) {
				t.Errorf("%s: no %s", name, w.line)
				continue
			}
			before, after := fmt.Sprint(all[i].Before), fmt.Sprint(all[i].After)
			if e := all[i]; e.String() != w.line || !strings.HasPrefix(e.From, w.from+":") || e.Controller != lab.Control ||
				!strings.Contains(before, w.before) || !strings.Contains(after, w.after) || (e.Outcome == "OK") != (e.Reason == "") {
				t.Errorf("%s: %d is %+v, want %+v", name, i, e, w)
			}
		}
	}
	secret := strings.Split(token, "-")[2]
	for _, out := range []string{l.Run(t, lab.Control, "cat", auditLog), l.Run(t, "h1", "ovlctl", "events", "-o", "json")} {
		if strings.Contains(out, secret) {
			t.Error("the token's secret is recorded")
		}
	}
	if mode := l.Run(t, lab.Control, "stat", "-c", "%a", auditLog); mode != "600" {
		t.Errorf("the log's mode is %s", mode)
	}
	table := strings.Fields(l.Run(t, "h1", "ovlctl", "events", "--tail", "1"))
	if got := strings.Join(table[6:], " "); !strings.HasSuffix(got, "admin local "+h1+" DeleteNetwork network blue OK") {
		t.Errorf("the table says %q", got)
	}
	if wide := l.Run(t, "h1", "ovlctl", "events", "-o", "wide"); !strings.Contains(wide, "mtu: 1400 → 1380") {
		t.Errorf("the wide table does not say what changed: %s", wide)
	}
}

// follower is an ovlctl events --follow that runs.
type follower struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines chan string
}

func follow(t *testing.T, l *labtest.Lab, args ...string) *follower {
	t.Helper()
	cmd, err := l.Command(t.Context(), "h1", append([]string{"ovlctl", "events", "--follow"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	f := &follower{t: t, cmd: cmd, lines: make(chan string)}
	go func() {
		defer close(f.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			select {
			case f.lines <- s.Text():
			case <-t.Context().Done():
				return
			}
		}
	}()
	return f
}

// next returns the next line.
func (f *follower) next() string {
	f.t.Helper()
	select {
	case line, ok := <-f.lines:
		if !ok {
			f.t.Fatal("it ended")
		}
		return line
	case <-time.After(time.Minute):
		f.t.Fatal("no event came")
		return ""
	}
}

// until returns the events up to one that says so.
func (f *follower) until(says string) []event {
	f.t.Helper()
	var all []event
	for {
		var e event
		line := f.next()
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			f.t.Fatalf("%q: %v", line, err)
		}
		all = append(all, e)
		if e.String() == says {
			return all
		}
	}
}

// TestFollowEvents: a follower sees what is done while it runs, and what was done
// while its controller was away; the log and the events outlive the controller.
func TestFollowEvents(t *testing.T) {
	t.Parallel()
	l := labtest.Up(t, lab.Config{Hosts: 1, Idle: true})
	l.Run(t, "h1", "ovlctl", "network", "create", "n0")
	f := follow(t, l, "--tail", "1", "-o", "json")
	begun := f.until("admin local|CreateNetwork|network n0|OK")
	if len(begun) != 1 {
		t.Errorf("it begins with %v", begun)
	}
	l.Run(t, "h1", "ovlctl", "network", "create", "n1")
	seen := f.until("admin local|CreateNetwork|network n1|OK")
	for _, end := range []func() error{
		func() error { return l.Stop(t.Context(), lab.Control, lab.Controller) },
		func() error { return l.Kill(t.Context(), lab.Control, lab.Controller) },
	} {
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if err := l.Start(t.Context(), lab.Control, lab.Controller); err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprint("n", len(seen)+1)
		l.Run(t, "h1", "ovlctl", "network", "create", name)
		seen = append(seen, f.until("admin local|CreateNetwork|network "+name+"|OK")...)
	}
	var got []string
	for _, e := range seen {
		got = append(got, e.Action)
	}
	const want = "CreateNetwork StopController StartController CreateNetwork StartController CreateNetwork"
	if strings.Join(got, " ") != want {
		t.Errorf("it saw %v, want %s", got, want)
	}
	kept := logged(t, l, auditLog)
	got = nil
	for _, e := range kept[len(kept)-6:] {
		got = append(got, e.Action)
	}
	if strings.Join(got, " ") != want {
		t.Errorf("the log has %v, want %s", got, want)
	}
	if err := lab.Interrupt(f.cmd); err != nil {
		t.Fatal(err)
	}
	for range f.lines {
		t.Error("more events")
	}
	_ = f.cmd.Wait() // ended by the interrupt
	table := follow(t, l, "--tail", "2", "--timeout", "5s")
	if title := table.next(); !strings.HasPrefix(title, "TIME") {
		t.Errorf("the table begins %q", title)
	}
	if first := table.next(); !strings.Contains(first, "StartController") {
		t.Errorf("the first row is %q", first)
	}
}

// TestAuditRotation: the log stays within its bounds, and loses no line within
// them; a controller without one does not start.
func TestAuditRotation(t *testing.T) {
	t.Parallel()
	const size, files = 131072, 3
	l := labtest.Up(t, lab.Config{Hosts: 1, Idle: true, ControllerArgs: []string{
		"--audit-log-size", fmt.Sprint(size), "--audit-log-files", fmt.Sprint(files),
	}})
	l.Run(t, "h1", "ovlctl", "network", "create", "blue")
	const updates = 40
	l.Run(t, "h1", "sh", "-ec", fmt.Sprintf(`
		pad=$(printf %%0240d 0)
		for i in $(seq %d); do
			labels=
			for j in $(seq 30); do labels="$labels --label k$j=$pad$i"; done
			ovlctl network update blue $labels
		done`, updates))
	if got := l.Run(t, lab.Control, "sh", "-c", "ls "+auditLog+"*"); got != auditLog+"\n"+auditLog+".1\n"+auditLog+".2" {
		t.Errorf("files: %s", got)
	}
	var all []event
	for _, file := range []string{auditLog + ".2", auditLog + ".1", auditLog} {
		var n int
		if _, err := fmt.Sscan(l.Run(t, lab.Control, "stat", "-c", "%s", file), &n); err != nil || n > size || n == 0 {
			t.Errorf("%s: %d bytes, %v", file, n, err)
		}
		all = append(all, logged(t, l, file)...)
	}
	if len(all) < 12 || len(all) > updates {
		t.Errorf("%d events are kept", len(all))
	}
	for i, e := range all {
		label := fmt.Sprint(e.After["labels"])
		if want := fmt.Sprint("0", updates-len(all)+i+1); !strings.Contains(label, want+" ") {
			t.Errorf("event %d of %d: %.60s", i, len(all), label)
		}
	}
	for says, args := range map[string][]string{
		"--audit-log-size 1: want": {"--audit-log-size", "1"},
		"--audit-log-files 0":      {"--audit-log-files", "0"},
		"no regular file":          {"--audit-log", "/dev/null"},
		"no such file":             {"--audit-log", "/nowhere/audit.log"},
	} {
		r := l.Do(t, "h1", append([]string{"ovl-controller", "--data-dir", "/run/c", "--listen", "127.0.0.1:7790", "--etcd-listen", "127.0.0.1:7779", "--metrics-listen", ""}, args...)...)
		if r.Code == 0 || !strings.Contains(r.Stderr, says) {
			t.Errorf("%v: %+v", args, r)
		}
	}
}
