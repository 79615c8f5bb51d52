package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/ovlnet/ovl/internal/sandbox"
)

// The defaults of what is asked whom.
const (
	defaultController = "127.0.0.1:6790"
	defaultSocket     = "/run/ovl/agent.sock"
	defaultTimeout    = 30 * time.Second
)

// options is what every command shares: the flags of the root command, and the
// world outside, which tests replace.
type options struct {
	controller string
	socket     string
	ca         string // files; see credentials
	cert       string
	key        string
	own        ownFiles // cert and ca, where a context names them
	plaintext  bool
	config     string
	context    string
	timeout    time.Duration
	output     string
	yes        bool

	stdin    io.Reader
	stdout   io.Writer
	stderr   io.Writer
	getenv   func(string) string
	now      func() time.Time
	terminal func(any) bool // whether a stream is a terminal
	paths    sandbox.Paths
	// machine are the configuration files of this machine, for who has none.
	machine []string
}

func newOptions() *options {
	return &options{
		stdin:    os.Stdin,
		stdout:   os.Stdout,
		stderr:   os.Stderr,
		getenv:   os.Getenv,
		now:      time.Now,
		terminal: isTerminal,
		paths:    sandbox.DefaultPaths(),
		machine:  []string{"/etc/ovl/ovlctl.yaml", "/var/lib/ovl-controller/identity/ovlctl.yaml"},
	}
}

// resolve fills what no flag gave from the environment, then from the context
// of the configuration file, then from the defaults.
func (o *options) resolve() error {
	if _, err := parseFormat(o.output); err != nil {
		return err
	}
	if o.timeout <= 0 {
		return usagef("--timeout %v: want more than zero", o.timeout)
	}
	c, err := o.loadContext()
	if err != nil {
		return err
	}
	o.controller = first(o.controller, o.getenv("OVL_CONTROLLER"), c.Controller, defaultController)
	o.socket = first(o.socket, o.getenv("OVL_SOCKET"), c.Socket, defaultSocket)
	o.plaintext = o.plaintext || slices.Contains([]string{"1", "true"}, o.getenv("OVL_INSECURE_PLAINTEXT"))
	given := first(o.ca, o.getenv("OVL_CA"))
	o.ca = first(given, c.CA)
	o.key = first(o.key, o.getenv("OVL_KEY"))
	if cert := first(o.cert, o.getenv("OVL_CERT")); cert != "" {
		o.cert = cert
	} else {
		o.cert, o.key = c.Cert, first(o.key, c.Key)
		if given == "" && o.key == "" && o.cert != "" {
			o.own = ownFiles{cert: o.cert, ca: o.ca}
		}
	}
	return nil
}

// deadline bounds one command by --timeout.
func (o *options) deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, o.timeout)
}

// say writes one line of words for people to stderr.
func (o *options) say(format string, args ...any) {
	fmt.Fprintf(o.stderr, format+"\n", args...)
}

// changed reports whether the user gave the flag.
func changed(c *cobra.Command, flag string) bool { return c.Flags().Changed(flag) }

func first(ss ...string) string {
	for _, s := range ss {
		if s != "" {
			return s
		}
	}
	return ""
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
