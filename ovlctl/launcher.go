package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
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
	err := l.sandbox.Create()
	if errors.Is(err, sandbox.ErrExists) {
		return nil, codef(exitConflict, "%w", err) // somebody was faster
	}
	if err != nil {
		return nil, err
	}
	l.created = true
	files, err := l.files()
	if err != nil {
		return nil, err
	}
	if err := l.sandbox.WriteFiles(files); err != nil {
		return nil, err
	}
	if err := l.attach(ctx, files); err != nil {
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

// attach asks the agent, and writes the addresses that it gave into hosts.
func (l *launcher) attach(ctx context.Context, files sandbox.Files) error {
	if len(l.spec.interfaces) == 0 {
		return nil
	}
	l.attached = true // even if the answer is lost: the agent may have done it
	a, err := l.agent.attachments().Attach(ctx, &ovlv1.AttachRequest{
		Id:         l.spec.name,
		Name:       l.spec.name,
		Netns:      l.sandbox.NetNS(),
		Hostname:   l.spec.hostname,
		Interfaces: l.spec.interfaces,
		Labels:     l.spec.labels,
	})
	if err != nil {
		return l.agent.explain("attach", err)
	}
	own, err := ownHosts(a, l.names())
	if err != nil {
		return err
	}
	files.Hosts = append(own, files.Hosts...)
	files.Resolv, err = l.spec.resolv(files.Resolv, a.GetInterfaces())
	if err != nil {
		return err
	}
	return l.sandbox.WriteFiles(files)
}

// names are the sandbox's own, the canonical one first (gethostname(2) users
// such as hostname -f take it).
func (l *launcher) names() []string {
	if l.spec.hostname == l.spec.name {
		return []string{l.spec.name}
	}
	return []string{l.spec.hostname, l.spec.name}
}

func ownHosts(a *ovlv1.Attachment, names []string) ([]sandbox.HostLine, error) {
	var lines []sandbox.HostLine
	for _, i := range a.GetInterfaces() {
		for _, s := range i.GetAddresses() {
			p, err := netip.ParsePrefix(s)
			if err != nil {
				return nil, fmt.Errorf("read the agent's answer: address %q: %w", s, err)
			}
			lines = append(lines, sandbox.HostLine{Addr: p.Addr(), Names: names})
		}
	}
	return lines, nil
}

func (l *launcher) files() (sandbox.Files, error) {
	r, err := sandbox.HostResolv()
	if err != nil {
		return sandbox.Files{}, err
	}
	if len(l.spec.servers) > 0 {
		r.Servers = l.spec.servers
	}
	if len(l.spec.search) > 0 {
		r.Search = l.spec.search
	}
	return sandbox.Files{Hostname: l.spec.hostname, Hosts: l.spec.hosts, Resolv: r}, nil
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
