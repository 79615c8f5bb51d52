package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"github.com/ovlnet/ovl/controller/audit"
)

// auditOptions are the flags about the audit log.
type auditOptions struct {
	path  string
	size  int64
	files int
}

// stdout is the path that means standard output.
const stdout = "-"

func (o *auditOptions) bind(flags *pflag.FlagSet) {
	flags.StringVar(&o.path, "audit-log", "", "file of the audit log, or - for stdout (default: audit.log in --data-dir)")
	flags.Int64Var(&o.size, "audit-log-size", 10<<20, "bytes that one file of the audit log may have; a full one becomes audit.log.1, and so on")
	flags.IntVar(&o.files, "audit-log-files", 10, "how many files of the audit log are kept, the one that is written included")
}

func (o *auditOptions) check(changed func(flag string) bool) error {
	var errs []error
	if o.size < audit.MinSize || o.size > audit.MaxSize {
		errs = append(errs, fmt.Errorf("--audit-log-size %d: want %d to %d bytes", o.size, audit.MinSize, int64(audit.MaxSize)))
	}
	if o.files < 1 || o.files > audit.MaxFiles {
		errs = append(errs, fmt.Errorf("--audit-log-files %d: want 1 to %d", o.files, audit.MaxFiles))
	}
	if o.path == stdout && (changed("audit-log-size") || changed("audit-log-files")) {
		errs = append(errs, errors.New("--audit-log - with --audit-log-size or --audit-log-files: who reads stdout keeps it in bounds: leave them out"))
	}
	return oneLine(errs)
}

// trail is what is recorded, and the log that it is recorded in.
type trail struct {
	*audit.Trail
	log    audit.Log
	ending chan struct{} // closed when nobody can be served any more
}

func openTrail(o options, b *backend, log *slog.Logger) (*trail, error) {
	to := audit.Stream(os.Stdout)
	if o.audit.path != stdout {
		f, err := openLog(o)
		if err != nil {
			return nil, err
		}
		to = f
	}
	hostname, _ := os.Hostname() // one without a name is just not named
	name, _, _ := strings.Cut(strings.ToLower(hostname), ".")
	t := audit.New(audit.Config{Store: b.kv, Log: to, Controller: cmp.Or(name, "controller"), Reports: log.With(slog.String("part", "audit"))})
	return &trail{Trail: t, log: to, ending: make(chan struct{})}, nil
}

func openLog(o options) (*audit.File, error) {
	path := o.audit.path
	if path == "" {
		path = filepath.Join(o.dataDir, "audit.log")
		if err := os.MkdirAll(o.dataDir, 0o700); err != nil {
			return nil, withAdvice(fmt.Errorf("open audit log: %w", err))
		}
	}
	f, err := audit.Open(path, o.audit.size, o.audit.files)
	if err != nil {
		return nil, fmt.Errorf("%w: choose another file with --audit-log", err)
	}
	return f, nil
}

// run brings events into the store until nobody is served any more, which is
// later than ctx is done: who is being served then is recorded too.
func (t *trail) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	go func() { <-t.ending; cancel() }()
	t.Run(ctx)
}

// finish records the end.
func (t *trail) finish() {
	t.Stopped()
	close(t.ending)
}

func (t *trail) close() error { return t.log.Close() }
