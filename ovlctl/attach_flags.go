package main

import (
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/sandbox"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// attachFlags are the flags of attach, as typed.
type attachFlags struct {
	run    runFlags // those that run has as well
	netns  string
	pid    int
	link   string
	resolv string
}

func (f *attachFlags) register(c *cobra.Command, o *options) {
	fl := c.Flags()
	fl.StringVar(&f.netns, "netns", "", "the namespace: its path, or its name in ip netns")
	fl.IntVar(&f.pid, "pid", 0, "a process that is in the namespace")
	fl.StringVar(&f.run.name, "name", "", "name by which others reach it")
	fl.StringVar(&f.link, "interface", "", "name of the interface on the first network (eth0, or the next that is free)")
	fl.StringVar(&f.resolv, "resolv-conf", "", "file to write, for the container's /etc/resolv.conf")
	f.run.registerNetworks(c, o, "network to attach to; "+ofOneNetwork)
}

// request checks the flags and returns what they ask the agent for.
func (f *attachFlags) request(paths sandbox.Paths) (*ovlv1.AttachRequest, error) {
	if f.run.name == "" {
		return nil, usagef("--name is missing; see ovlctl attach --help")
	}
	if err := cluster.CheckName(f.run.name); err != nil {
		return nil, usagef("--name: %w", err)
	}
	path, err := f.path(paths)
	if err != nil {
		return nil, err
	}
	for _, n := range f.run.networks {
		if _, is, err := parseMode(n); err != nil || is {
			return nil, usagef("--network %s: it is no network that a namespace could be on", oneLine(n))
		}
	}
	var r runSpec
	if err := f.run.addInterfaces(&r); err != nil {
		return nil, err
	}
	if err := f.run.addPorts(&r); err != nil {
		return nil, err
	}
	labels, err := parseLabels(f.run.tags)
	if err != nil {
		return nil, err
	}
	if f.link != "" {
		r.interfaces[0].Name = f.link
	}
	return &ovlv1.AttachRequest{
		Id: f.run.name, Name: f.run.name, Netns: path, Interfaces: r.interfaces, Ports: r.ports, Labels: labels,
	}, nil
}

// path returns the path of the namespace as the agent is to open it.
func (f *attachFlags) path(paths sandbox.Paths) (string, error) {
	switch {
	case f.netns != "" && f.pid != 0:
		return "", usagef("--netns and --pid: want one of them")
	case f.netns == "" && f.pid == 0:
		return "", usagef("--netns or --pid is missing; see ovlctl attach --help")
	case f.pid < 0:
		return "", usagef("--pid %d: want the number of a process", f.pid)
	case f.netns == "":
		return "/proc/" + strconv.Itoa(f.pid) + "/ns/net", nil
	case f.netns == "." || f.netns == "..":
		return "", usagef("--netns %q: want the path of a network namespace, or its name in ip netns", f.netns)
	case !strings.Contains(f.netns, "/"):
		return filepath.Join(paths.NetNS, f.netns), nil
	}
	path, err := filepath.Abs(f.netns)
	if err != nil {
		return "", usagef("--netns %q: %w", f.netns, err)
	}
	for _, own := range []string{"/proc/self/", "/proc/thread-self/"} {
		if strings.HasPrefix(path, own) {
			return "", usagef("--netns %s: to the agent that is itself: name a process with --pid", path)
		}
	}
	return path, nil
}
