package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/ovlnet/ovl/internal/store"
)

// Config says where an etcd cluster is and how long to wait for it.
type Config struct {
	Endpoints []string    // host:port or URLs with http, https or unix
	TLS       *tls.Config // nil = plain text
	// Dialer connects to host:port; nil = as gRPC does, to unix sockets as well.
	Dialer func(ctx context.Context, addr string) (net.Conn, error)
	// DialTimeout bounds one attempt to connect. 0 = 2 s.
	DialTimeout time.Duration
	// RequestTimeout bounds each call, besides its context. 0 = 5 s.
	RequestTimeout time.Duration
	Log            *slog.Logger // of the client, at debug; nil = none
}

const (
	defaultDialTimeout    = 2 * time.Second
	defaultRequestTimeout = 5 * time.Second
	// After an outage the longest wait for the next attempt: a host is to be
	// current within three seconds.
	reconnectMax = time.Second
	// A connection on which nothing comes back for that long is given up:
	// gRPC pings after keepAliveTime of silence (ten seconds is the least that
	// grpc-go allows), and sets TCP_USER_TIMEOUT to keepAliveTimeout, so that
	// data unacknowledged for as long ends the connection at once.
	keepAliveTime    = 10 * time.Second
	keepAliveTimeout = 3 * time.Second
	// maxReceive bounds a response: some 200,000 records.
	maxReceive = 64 << 20
	// retries of reads while a connection fails over, 25 ms apart.
	retries = 20
)

// Store is an etcd cluster as a [store.KV].
type Store struct {
	client  *clientv3.Client
	timeout time.Duration
}

var _ store.KV = (*Store)(nil)

// Dial returns the store at the endpoints. It does not wait for them: the first
// call does.
func Dial(cfg Config) (*Store, error) {
	if err := checkEndpoints(cfg.Endpoints); err != nil {
		return nil, fmt.Errorf("dial etcd: %w", err)
	}
	connect := grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: reconnectMax},
		MinConnectTimeout: orDefault(cfg.DialTimeout, defaultDialTimeout),
	}
	options := []grpc.DialOption{
		grpc.WithConnectParams(connect),
		grpc.WithChainUnaryInterceptor(noteUnary),
		grpc.WithChainStreamInterceptor(noteStream),
	}
	if cfg.Dialer != nil {
		options = append(options, grpc.WithContextDialer(cfg.Dialer))
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints:            cfg.Endpoints,
		TLS:                  cfg.TLS,
		DialTimeout:          orDefault(cfg.DialTimeout, defaultDialTimeout),
		DialKeepAliveTime:    keepAliveTime,
		DialKeepAliveTimeout: keepAliveTimeout,
		MaxCallRecvMsgSize:   maxReceive,
		MaxUnaryRetries:      retries,
		Logger:               ZapLogger(cfg.Log),
		DialOptions:          options,
	})
	if err != nil {
		return nil, fmt.Errorf("dial etcd: %w", err)
	}
	return &Store{client: client, timeout: orDefault(cfg.RequestTimeout, defaultRequestTimeout)}, nil
}

// Close implements [store.KV]. Watches end.
func (s *Store) Close() error {
	if err := s.client.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("close etcd client: %w", err)
	}
	return nil
}

func orDefault(d, def time.Duration) time.Duration {
	if d <= 0 {
		return def
	}
	return d
}

// checkEndpoints refuses what the client would only notice by never connecting.
func checkEndpoints(endpoints []string) error {
	if len(endpoints) == 0 {
		return errors.New("no endpoints")
	}
	for _, e := range endpoints {
		host := e
		if strings.Contains(e, "://") {
			u, err := url.Parse(e)
			if err != nil {
				return err
			}
			switch u.Scheme {
			case "unix", "unixs":
				continue
			case "http", "https":
				host = u.Host
			default:
				return fmt.Errorf("endpoint %q: want http or https, not %s", e, u.Scheme)
			}
		}
		if i := strings.LastIndexByte(host, ':'); i < 0 || i == len(host)-1 {
			return fmt.Errorf("endpoint %q: port missing", e)
		}
	}
	return nil
}
