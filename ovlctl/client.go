package main

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/ovlnet/ovl/internal/identity"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// client is a connection to a controller or to this host's agent.
type client struct {
	who     string // for people: "controller 127.0.0.1:6790"
	address string
	local   bool
	conn    *grpc.ClientConn
	own     *identity.Credential // what the controller is shown; nil: nothing
	ca      identity.Print       // that the controller is asked to show a certificate of

	mu      sync.Mutex
	lastErr error  // of the last dial: gRPC only quotes it, and class gets lost
	inForce string // the CAs, as the controller told last
}

// told returns which CAs are in force, as far as the controller has told.
func (c *client) told() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.inForce
}

// listen keeps what each answer tells of the CAs in force.
func (c *client) listen(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	var header metadata.MD
	err := invoke(ctx, method, req, reply, conn, append(opts, grpc.Header(&header))...)
	if v := header.Get(identity.Header); len(v) == 1 {
		c.mu.Lock()
		c.inForce = v[0]
		c.mu.Unlock()
	}
	return err
}

// watched returns the settings of a client of the controller, with why the other end
// was not taken for one kept: gRPC only quotes it.
func (c *client) watched(own *identity.Credential) *tls.Config {
	return own.ClientNoting(func(err error) {
		if err != nil {
			c.mu.Lock()
			c.lastErr = err
			c.mu.Unlock()
		}
	})
}

func (c *client) close() { _ = c.conn.Close() }

func (c *client) dialError() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lastErr
}

// dialController connects lazily to the controller; an address without a port
// gets the default one.
func (o *options) dialController() (*client, error) {
	address, err := controllerAddress(o.controller)
	if err != nil {
		return nil, err
	}
	c := &client{who: "controller " + address, address: address}
	credentials, err := o.credentials(c)
	if err != nil {
		return nil, err
	}
	return c.dial("tcp", credentials)
}

// controllerAddress checks HOST:PORT; a host alone gets the default port.
func controllerAddress(s string) (string, error) {
	_, port, _ := net.SplitHostPort(defaultController)
	if ip, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return net.JoinHostPort(ip.String(), port), nil
	}
	if !strings.Contains(s, ":") {
		s = net.JoinHostPort(s, port)
	}
	host, port, err := net.SplitHostPort(s)
	if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n == 0 || strings.ContainsAny(host, "/ \t\n") {
		return "", usagef("--controller %q: want HOST:PORT", s)
	}
	return s, nil
}

// dialAgent connects lazily to the agent of this host.
func (o *options) dialAgent() (*client, error) {
	path := strings.TrimPrefix(o.socket, "unix://")
	c := &client{who: "agent " + path, address: path, local: true}
	return c.dial("unix", insecure.NewCredentials()) // the socket's mode guards it
}

// dial makes the connection without waiting.
func (c *client) dial(network string, with credentials.TransportCredentials) (*client, error) {
	authority := "ovl"
	if c.ca != (identity.Print{}) {
		authority = identity.ServerName(c.ca)
	}
	conn, err := grpc.NewClient("passthrough:///"+c.address,
		grpc.WithTransportCredentials(with),
		grpc.WithAuthority(authority),
		grpc.WithUnaryInterceptor(c.listen),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			var d net.Dialer
			nc, err := d.DialContext(ctx, network, c.address)
			c.mu.Lock()
			c.lastErr = err
			c.mu.Unlock()
			return nc, err
		}))
	if err != nil {
		return nil, usagef("connect to %s: %w", c.who, err)
	}
	c.conn = conn
	return c, nil
}

func (c *client) networks() ovlv1.NetworkServiceClient { return ovlv1.NewNetworkServiceClient(c.conn) }

func (c *client) hosts() ovlv1.HostServiceClient { return ovlv1.NewHostServiceClient(c.conn) }

func (c *client) subnets() ovlv1.SubnetServiceClient { return ovlv1.NewSubnetServiceClient(c.conn) }

func (c *client) endpoints() ovlv1.EndpointServiceClient {
	return ovlv1.NewEndpointServiceClient(c.conn)
}

func (c *client) cluster() ovlv1.ControllerServiceClient {
	return ovlv1.NewControllerServiceClient(c.conn)
}

func (c *client) agent() ovlv1.AgentServiceClient { return ovlv1.NewAgentServiceClient(c.conn) }

func (c *client) attachments() ovlv1.AttachmentServiceClient {
	return ovlv1.NewAttachmentServiceClient(c.conn)
}

// onController calls do with a connection to the controller, within --timeout.
func (o *options) onController(ctx context.Context, do func(context.Context, *client) error) error {
	return o.on(ctx, o.dialController, func(ctx context.Context, cl *client) error {
		err := do(ctx, cl)
		o.keepFresh(ctx, cl)
		return err
	})
}

// onAgent calls do with a connection to this host's agent, within --timeout.
func (o *options) onAgent(ctx context.Context, do func(context.Context, *client) error) error {
	return o.on(ctx, o.dialAgent, do)
}

func (o *options) on(ctx context.Context, dial func() (*client, error), do func(context.Context, *client) error) error {
	c, err := dial()
	if err != nil {
		return err
	}
	defer c.close()
	ctx, cancel := o.deadline(ctx)
	defer cancel()
	return do(ctx, c)
}
