package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// keeper is the root of a lab's processes: process 1 of its PID namespace.
type keeper struct {
	config   Config
	children *children
	underlay *underlay
	talk     *os.File

	mu      sync.Mutex // one request at a time
	hosts   map[string]*keptHost
	follows bool // the admin's certificate: see followAdmin
	ordered []*keptHost
}

// keptHost is a host as the keeper knows it.
type keptHost struct {
	Host
	runs  *child // the daemon, nil if none was started; see running
	cut   bool   // from the underlay
	apart bool   // from etcd
}

// Keep is the keeper's main function: it makes the lab of the given
// configuration, reports on an inherited socket, and serves requests until it
// is killed. It returns only when the lab cannot be made, or when who started
// it ended without having released it.
func Keep(config string) error {
	k := &keeper{talk: os.NewFile(keeperTalkFD, "starter"), children: newChildren(), hosts: map[string]*keptHost{}}
	if os.Getpid() != 1 {
		return fmt.Errorf("keep a lab: this is process %d, want 1 of a PID namespace; use `ovlctl lab up`", os.Getpid())
	}
	unix.CloseOnExec(keeperTalkFD)
	unix.CloseOnExec(keeperListenFD)
	if err := json.Unmarshal([]byte(config), &k.config); err != nil {
		return fmt.Errorf("keep a lab: decode configuration: %w", err)
	}
	abandoned := k.tether()
	go k.children.reap()
	go func() {
		if err := k.make(); err != nil {
			k.report(report{Error: err.Error(), Perm: errors.Is(err, fs.ErrPermission)})
			return
		}
		k.report(report{Hosts: k.list()})
		k.serve()
	}()
	<-abandoned
	return nil
}

// tether returns a channel that is closed when the other end of the socket is
// closed without a release.
func (k *keeper) tether() <-chan struct{} {
	abandoned := make(chan struct{})
	go func() {
		word := make([]byte, len(released))
		if _, err := io.ReadFull(k.talk, word); err != nil || string(word) != released {
			close(abandoned)
		}
	}()
	return abandoned
}

// report tells who started the keeper; nobody may be there any more.
func (k *keeper) report(r report) { _ = json.NewEncoder(k.talk).Encode(r) }

func (k *keeper) doing(format string, args ...any) {
	k.report(report{Doing: fmt.Sprintf(format, args...)})
}

// make makes the lab.
func (k *keeper) make() error {
	if err := keeperMounts(); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(k.config.Name)); err != nil {
		return fmt.Errorf("set hostname %s: %w", k.config.Name, err)
	}
	k.doing("making %d hosts", k.config.Hosts)
	var err error
	if k.underlay, err = newUnderlay(k.config); err != nil {
		return err
	}
	for i, name := range k.config.names() {
		if err := k.makeHost(i, name); err != nil {
			return fmt.Errorf("make host %s: %w", name, err)
		}
	}
	if k.config.Bare {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), k.config.Ready)
	defer cancel()
	k.doing("starting the controller")
	if err := k.start(ctx, k.hosts[Control]); err != nil {
		return err
	}
	if k.config.Idle {
		return nil
	}
	k.doing("starting %d agents", k.config.Hosts)
	return k.startAgents(ctx, k.members())
}

// makeHost starts the process that holds a host's namespaces and plugs the
// host into the underlay.
func (k *keeper) makeHost(i int, name string) error {
	address := k.config.address(part(i))
	c, err := startHost(k.children, hostSpec{Config: k.config, Name: name, Address: address.Addr().String()})
	if err != nil {
		return err
	}
	if err := k.underlay.plug(name, part(i), c.pid); err != nil {
		return err
	}
	h := &keptHost{Host: Host{Name: name, Address: address.Addr().String(), PID: c.pid}}
	k.hosts[name] = h
	k.ordered = append(k.ordered, h)
	return nil
}

// members returns the hosts that run an agent.
func (k *keeper) members() []*keptHost { return k.ordered[2:] }

func (k *keeper) list() []Host {
	var hosts []Host
	for _, h := range k.ordered {
		hosts = append(hosts, h.Host)
	}
	return hosts
}

// serve answers requests for as long as the keeper lives.
func (k *keeper) serve() {
	f := os.NewFile(keeperListenFD, "requests")
	l, err := net.FileListener(f)
	if err != nil {
		fmt.Fprintf(os.Stderr, "listen for requests: %v\n", err)
		return
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			fmt.Fprintf(os.Stderr, "accept a request: %v\n", err)
			return
		}
		go k.answer(conn)
	}
}

func (k *keeper) answer(conn net.Conn) {
	defer conn.Close()
	var q request
	if err := json.NewDecoder(conn).Decode(&q); err != nil {
		return // who asked has gone, or is no ovlctl
	}
	r, err := k.handle(q)
	if err != nil {
		r.Error = err.Error()
	}
	_ = json.NewEncoder(conn).Encode(r) // who asked may have gone
}

// handle does what a request asks.
func (k *keeper) handle(q request) (response, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if q.Verb == verbList {
		return response{Status: k.status()}, nil
	}
	h, ok := k.hosts[q.Host]
	if !ok {
		return response{}, fmt.Errorf("find host %q: %w", q.Host, ErrNotFound)
	}
	switch q.Verb {
	case verbCut, verbMend:
		return response{}, k.setCut(h, q.Verb == verbCut, q.FromEtcd)
	case verbStart, verbStop, verbKill:
		return response{}, k.run(q.Verb, h, q.What)
	default:
		return response{}, fmt.Errorf("do %q: no such request", q.Verb)
	}
}

// run starts or ends what runs on a host.
func (k *keeper) run(verb string, h *keptHost, what string) error {
	if err := h.runsWhat(what); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), k.config.Ready)
	defer cancel()
	switch verb {
	case verbStop:
		return h.end(ctx, unix.SIGTERM)
	case verbKill:
		return h.end(ctx, unix.SIGKILL)
	}
	if h.Name == Control {
		return k.start(ctx, h)
	}
	return k.startAgents(ctx, []*keptHost{h})
}

func (k *keeper) status() []HostStatus {
	var all []HostStatus
	for _, h := range k.ordered {
		s := HostStatus{Host: h.Host}
		if h.running() {
			s.Runs = []string{h.daemon()}
		}
		switch {
		case h.cut:
			s.Cut = "underlay"
		case h.apart:
			s.Cut = "etcd"
		}
		all = append(all, s)
	}
	return all
}
