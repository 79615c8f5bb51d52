package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ovlnet/ovl/internal/sandbox"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// undoTimeout bounds taking back what a launch has made, in addition to the
// time that the launch had.
const undoTimeout = 10 * time.Second

// launcher makes one sandbox. It knows what it has made, so as to take it back.
type launcher struct {
	o       *options
	spec    runSpec
	sandbox sandbox.Sandbox
	agent   *client

	joins sandbox.Wish // of the sandbox whose network namespace is shared
	netns string       // to share; "" = one of its own

	created, attached bool
}

// check finds out what would fail, before anything is made.
func (l *launcher) check(ctx context.Context) error {
	if len(l.spec.command) > 0 {
		if _, err := sandbox.LookPath(l.spec.command[0]); err != nil {
			return commandError(err)
		}
	}
	if err := l.sandbox.Free(); err != nil {
		return codef(exitConflict, "the name is in use: %w; see ovlctl ps", err)
	}
	if l.spec.mode != "" {
		return l.findShared(ctx)
	}
	if len(l.spec.interfaces) == 0 {
		return nil
	}
	found, err := l.agent.attached(ctx, l.spec.name)
	if err != nil {
		return l.agent.explain("ask for attachments", err)
	}
	if found {
		return codef(exitConflict, "the name is in use by an attachment of this host; see ovlctl ps")
	}
	return nil
}

// make makes everything. After an error the caller says undo.
func (l *launcher) make(ctx context.Context) (*sandbox.Process, error) {
	err := l.create()
	if errors.Is(err, sandbox.ErrExists) {
		return nil, codef(exitConflict, "%w", err) // somebody was faster
	}
	if err != nil {
		return nil, err
	}
	l.created = true
	w := l.wish()
	if err := l.sandbox.Keep(w); err != nil {
		return nil, err
	}
	interfaces, err := l.attach(ctx)
	if err != nil {
		return nil, err
	}
	files, err := filesOf(l.spec.name, l.spec.mode, w, interfaces)
	if err != nil {
		return nil, err
	}
	if err := l.sandbox.WriteFiles(files); err != nil {
		return nil, err
	}
	if len(l.spec.command) == 0 {
		return nil, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	stdio := sandbox.Stdio{In: l.o.stdin, Out: l.o.stdout, Err: l.o.stderr}
	p, err := l.sandbox.Start(l.spec.command, stdio, l.spec.detach)
	return p, commandError(err)
}

// attach asks the agent, and returns the interfaces in the sandbox's network
// namespace: those of another container if it is shared.
func (l *launcher) attach(ctx context.Context) ([]*ovlv1.Interface, error) {
	if l.spec.mode != "" {
		return l.agent.sharedInterfaces(ctx, l.spec.mode)
	}
	if len(l.spec.interfaces) == 0 {
		return nil, nil
	}
	l.attached = true // even if the answer is lost: the agent may have done it
	a, err := l.agent.attachments().Attach(ctx, &ovlv1.AttachRequest{
		Id:         l.spec.name,
		Name:       l.spec.name,
		Netns:      l.sandbox.NetNS(),
		Hostname:   l.spec.hostname,
		Interfaces: l.spec.interfaces,
		Ports:      l.spec.ports,
		Labels:     l.spec.labels,
	})
	return a.GetInterfaces(), l.agent.explain("attach", err)
}

// undo takes back what was made, also when the time for making it is over.
func (l *launcher) undo(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	var errs []error
	if l.attached {
		errs = append(errs, l.agent.explain("undo: detach", l.agent.detach(ctx, l.spec.name)))
	}
	if l.created {
		errs = append(errs, wrapUndo(l.sandbox.Remove()))
	}
	return errors.Join(errs...)
}

func wrapUndo(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("undo: %w", err)
}
