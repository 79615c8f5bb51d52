package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
)

// Lab is a lab that is up, or was when it was opened.
type Lab struct {
	record record
	tether *os.File // held open: the keeper ends when it closes; nil if the lab stands by itself
}

// Open returns the lab with that name; an empty root is DefaultRoot. The
// error is [ErrNotFound] if there is none or if it has crashed.
func Open(root, name string) (*Lab, error) {
	if root == "" {
		var err error
		if root, err = DefaultRoot(); err != nil {
			return nil, err
		}
	}
	r, err := load(root, name)
	if err != nil {
		return nil, err
	}
	return &Lab{record: r}, nil
}

// Name returns the lab's name.
func (l *Lab) Name() string { return l.record.Config.Name }

// Config returns what the lab was made from.
func (l *Lab) Config() Config { return l.record.Config }

// Hosts returns all hosts of the lab, control and outside first.
func (l *Lab) Hosts() []Host { return slices.Clone(l.record.Hosts) }

// Members returns the names of the hosts that run an agent: h1, h2, ….
func (l *Lab) Members() []string { return l.record.Config.members() }

// Host returns the host with that name.
func (l *Lab) Host(name string) (Host, error) {
	for _, h := range l.record.Hosts {
		if h.Name == name {
			return h, nil
		}
	}
	return Host{}, fmt.Errorf("find host %s in lab %s: %w; it has %s, %s and h1 to h%d",
		name, l.Name(), ErrNotFound, Control, Outside, l.record.Config.Hosts)
}

// Alive reports whether the lab is up; one that is not has crashed, and
// [Lab.Down] removes what it left.
func (l *Lab) Alive() bool { return l.record.alive() }

// List returns the labs recorded in root, by name, those that crashed
// included; an empty root is DefaultRoot.
func List(_ context.Context, root string) ([]*Lab, error) {
	if root == "" {
		var err error
		if root, err = DefaultRoot(); err != nil {
			return nil, err
		}
	}
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list labs: %w", err)
	}
	var labs []*Lab
	for _, e := range entries {
		r, err := load(root, e.Name())
		if errors.Is(err, ErrNotFound) {
			continue // being made, or half removed
		}
		if err != nil {
			return nil, err
		}
		labs = append(labs, &Lab{record: r})
	}
	slices.SortFunc(labs, func(a, b *Lab) int { return cmp.Compare(a.Name(), b.Name()) })
	return labs, nil
}
