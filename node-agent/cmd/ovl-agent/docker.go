package main

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"

	"go.etcd.io/bbolt"

	"github.com/ovlnet/ovl/internal/settings"
	"github.com/ovlnet/ovl/node-agent/attach"
	"github.com/ovlnet/ovl/node-agent/dockerdriver"
)

// The values of --docker-plugin.
const (
	dockerAuto = "auto"
	dockerOn   = "on"
	dockerOff  = "off"
)

func checkDocker(mode string) error {
	switch mode {
	case dockerAuto, dockerOn, dockerOff:
		return nil
	}
	return settings.Usage(fmt.Errorf("--docker-plugin %q: want on, off, or auto: on where Docker is", mode))
}

// dockerSocket is where engines find the agent.
type dockerSocket struct {
	net.Listener
	server *dockerdriver.Server
}

// listenForDocker listens for engines, before anything else is ready: an engine that starts
// at the same time asks at once, and would tell its containers no. It returns nil where that
// is not wanted, or nobody is there to ask.
func (o *options) listenForDocker(log *slog.Logger) (*dockerSocket, error) {
	if o.dockerPlugin == dockerOff || o.dockerPlugin == dockerAuto && !hasDocker() {
		return nil, nil //nolint:nilnil // no socket is no error
	}
	l, err := attach.ListenAlone(o.dockerSocket)
	switch {
	case err == nil:
	case o.dockerPlugin == dockerAuto:
		log.Warn("Docker cannot use the networks: its plugin's socket cannot be had", "err", err)
		return nil, nil //nolint:nilnil // the rest of the agent works
	default:
		return nil, err
	}
	return &dockerSocket{l, dockerdriver.NewServer(log)}, nil
}

// hasDocker reports whether an engine is installed here, running or not.
func hasDocker() bool {
	if _, err := exec.LookPath("dockerd"); err == nil {
		return true
	}
	_, err := os.Stat("/run/docker.sock")
	return err == nil
}

// dockerDriver makes the driver of the rooms.
func (r *running) dockerDriver(db *bbolt.DB, log *slog.Logger) (*dockerdriver.Driver, error) {
	book, err := dockerdriver.OpenBook(db)
	if err != nil {
		return nil, err
	}
	return dockerdriver.New(dockerdriver.Config{Attachments: r.Attachments, Cluster: r.loop, Book: book, Log: log}), nil
}
