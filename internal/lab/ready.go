package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// readyPoll is the time between two questions whether a daemon is ready. The
// daemons are separate programs: there is nothing to wait for but an answer.
const readyPoll = 25 * time.Millisecond

// start starts the controller and waits until it answers.
func (k *keeper) start(ctx context.Context, h *keptHost) error {
	if err := k.launch(h, ""); err != nil {
		return err
	}
	err := h.await(ctx, func(ctx context.Context) error {
		conn, err := k.asAdmin() // which it makes possible itself, at its first start
		if err != nil {
			return err
		}
		defer conn.Close()
		s, err := ovlv1.NewControllerServiceClient(conn).GetStatus(ctx, &ovlv1.GetStatusRequest{})
		if err == nil && !s.GetEtcdHealthy() {
			err = errors.New("its etcd is not healthy")
		}
		return err
	})
	if err != nil {
		return err
	}
	if !k.follows {
		if err := k.followAdmin(); err != nil {
			return err
		}
		k.follows = true
	}
	return k.shareAdmin()
}

// startAgents starts agents, all at once, and waits until each has joined and
// the controller knows it. Without a controller the first half must do.
func (k *keeper) startAgents(ctx context.Context, hosts []*keptHost) error {
	strangers := 0
	for _, h := range hosts {
		if !h.joined() && !h.running() {
			strangers++
		}
	}
	token, err := k.token(ctx, strangers)
	if err != nil {
		return err
	}
	for _, h := range hosts {
		if err := k.launch(h, token); err != nil {
			return err
		}
	}
	for _, h := range hosts {
		if err := k.awaitAgent(ctx, h); err != nil {
			return err
		}
	}
	if !k.hosts[Control].running() {
		return nil
	}
	conn, err := k.asAdmin()
	if err != nil {
		return err
	}
	defer conn.Close()
	for _, h := range hosts {
		if !k.sees(h) {
			continue
		}
		if err := h.await(ctx, func(ctx context.Context) error { return joined(ctx, conn, h.Name) }); err != nil {
			return err
		}
	}
	return nil
}

// sees reports whether the host can reach the controller, as far as the lab
// is concerned.
func (k *keeper) sees(h *keptHost) bool {
	control := k.hosts[Control]
	return control.running() && !control.cut && !h.cut && !h.apart
}

// awaitAgent waits until an agent answers on its socket and, if it can reach
// etcd, holds its ownership lease.
func (k *keeper) awaitAgent(ctx context.Context, h *keptHost) error {
	conn, err := dial("passthrough:///agent", func(ctx context.Context, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", h.path("/run/ovl/agent.sock"))
	}, insecure.NewCredentials())
	if err != nil {
		return err
	}
	defer conn.Close()
	return h.await(ctx, func(ctx context.Context) error {
		s, err := ovlv1.NewAgentServiceClient(conn).GetStatus(ctx, &ovlv1.GetAgentStatusRequest{})
		if err == nil && k.sees(h) && s.GetOwnership() != "held" {
			err = fmt.Errorf("its ownership lease is %q", s.GetOwnership())
		}
		return err
	})
}

// joined reports whether the controller lists the host as up.
func joined(ctx context.Context, conn *grpc.ClientConn, name string) error {
	h, err := ovlv1.NewHostServiceClient(conn).GetHost(ctx, &ovlv1.GetHostRequest{Name: name})
	if err == nil && h.GetState() == "down" {
		err = errors.New("the controller says that it is down")
	}
	return err
}

// await asks until the host's daemon is ready, has ended, or ctx has.
func (h *keptHost) await(ctx context.Context, ready func(context.Context) error) error {
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for {
		ask, cancel := context.WithTimeout(ctx, time.Second)
		err := ready(ask)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-h.runs.done:
			return fmt.Errorf("start %s on %s: it ended with %s, saying: %s", h.daemon(), h.Name, h.runs, h.said())
		case <-ctx.Done():
			return fmt.Errorf("wait for %s on %s: %w; it says: %s", h.daemon(), h.Name, err, h.said())
		case <-tick.C:
		}
	}
}

// said returns the end of the daemon's log.
func (h *keptHost) said() string {
	log, err := os.ReadFile(h.logFile())
	if err != nil {
		return err.Error()
	}
	return lastLines(string(log), 3)
}

// dial returns a client connection that connects when it is first used.
func dial(target string, dialer func(context.Context, string) (net.Conn, error), with credentials.TransportCredentials) (*grpc.ClientConn, error) {
	options := []grpc.DialOption{grpc.WithTransportCredentials(with), grpc.WithNoProxy()}
	options = append(options, grpc.WithConnectParams(grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: readyPoll, Multiplier: 1.2, MaxDelay: 4 * readyPoll},
		MinConnectTimeout: time.Second,
	}))
	if dialer != nil {
		options = append(options, grpc.WithContextDialer(dialer))
	}
	conn, err := grpc.NewClient(target, options...)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", target, err)
	}
	return conn, nil
}
