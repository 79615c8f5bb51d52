package embedstore

import (
	"net/netip"
	"net/url"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"google.golang.org/grpc"

	"github.com/ovlnet/ovl/internal/store/etcd"
)

const (
	// A cluster of one elects itself when its election timer ends; nobody else
	// can be late. Short ticks make that a quarter of a second. The shortest
	// lease is one and a half times the election time.
	tickMs     = 50
	electionMs = 250
	// History is bounded in revisions, not in hours: the disk is then bounded
	// whatever the rate of writes, and a reader that was away for longer lists
	// again. Checked every five minutes. So many of the longest records, and what one
	// host may write in the meantime, stay below the quota, at which nobody could
	// write any more.
	keptRevisions = "20000"
	quota         = 2 << 30 // bytes
	maxStreams    = 1024    // calls at once on one connection; all watches of a client are one
	// memberURL names the member to itself. Nobody connects to it; it only has
	// to stay the same, since it is written into the data.
	memberURL  = "http://127.0.0.1:2380"
	memberName = "ovl"
)

// settings returns etcd's configuration.
//
// etcd itself is told of no TLS. It would read the CA once, at start, and serve
// gRPC through net/http; so the gRPC server gets our credentials, as the last of
// its options, and etcd's HTTP pages go to a socket of their own, which makes
// etcd serve plain gRPC on the port. TestStrangers holds this to a stranger.
func settings(cfg Config, addr netip.AddrPort, streams *streams, d *door, web *webSocket) *embed.Config {
	c := embed.NewConfig()
	c.Name, c.Dir = memberName, cfg.DataDir
	c.ListenClientUrls = []url.URL{{Scheme: "http", Host: addr.String()}}
	c.ListenClientHttpUrls = []url.URL{web.url()}
	c.AdvertiseClientUrls = c.ListenClientUrls
	c.ListenPeerUrls = nil // one member: no port for peers, none to protect
	c.AdvertisePeerUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:2380"}}
	c.InitialCluster = memberName + "=" + memberURL
	c.TickMs, c.ElectionMs = tickMs, electionMs
	c.InitialElectionTickAdvance = true
	c.AutoCompactionMode, c.AutoCompactionRetention = embed.CompactorModeRevision, keptRevisions
	c.QuotaBackendBytes = quota
	c.MaxConcurrentStreams = maxStreams
	c.WatchProgressNotifyInterval = time.Minute
	// Agents ping an idle connection every ten seconds.
	c.GRPCKeepAliveMinTime = 5 * time.Second
	c.EnableGRPCGateway = false
	c.GRPCAdditionalServerOptions = []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(d.unary), grpc.ChainStreamInterceptor(d.stream, streams.intercept),
	}
	if cfg.TLS != nil {
		c.GRPCAdditionalServerOptions = append(c.GRPCAdditionalServerOptions, grpc.Creds(cfg.TLS))
	}
	c.UnsafeNoFsync = cfg.UnsafeNoSync
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(etcd.ZapLogger(cfg.Log))
	return c
}
