package api

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/ovlnet/ovl/controller/admit"
	"github.com/ovlnet/ovl/controller/audit"
	"github.com/ovlnet/ovl/internal/store"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// Config is what a Server needs.
type Config struct {
	Store    store.KV
	Log      *slog.Logger
	Defaults admit.Defaults // valid: see [admit.Defaults.Check]
	About    About
	// Trail has the events; nil where nothing is recorded.
	Trail *audit.Trail
	// HostNetworks lets hosts bring the networks of their container engines in.
	HostNetworks bool
	// Doubts says which records are not their hosts' own: see [store.Mirror.Doubts];
	// nil where hosts do not sign.
	Doubts func(ctx context.Context, records []store.Record) (map[string]error, error)
	// Identity makes members; nil where nobody has to be one.
	Identity *Identity
	// StoreTimeout bounds one read or transaction, so that a store out of reach
	// is told from a slow call; 0 = 5 s.
	StoreTimeout time.Duration
}

// About is what the controller says of itself.
type About struct {
	Version       string
	Commit        string
	Started       time.Time
	EtcdEndpoints []string
	EtcdEmbedded  bool
}

// Server implements the controller's services.
type Server struct {
	kv       store.KV
	log      *slog.Logger
	defaults admit.Defaults
	about    About
	timeout  time.Duration
	identity *Identity
	judge    func(context.Context, []store.Record) (map[string]error, error)
	trail    *audit.Trail
	hosts    bool          // may bring networks in
	joining  chan struct{} // as creating
	// creating holds one token. Creations of one controller take turns: they
	// compare the same record, so that side by side they would only make each
	// other try again.
	creating chan struct{}
	closing  chan struct{}
	close    func()
}

// New returns a Server.
func New(c Config) *Server {
	if c.StoreTimeout == 0 {
		c.StoreTimeout = 5 * time.Second
	}
	closing := make(chan struct{})
	return &Server{
		kv: c.Store, log: c.Log, defaults: c.Defaults, about: c.About, timeout: c.StoreTimeout,
		identity: c.Identity, judge: c.Doubts, trail: c.Trail, hosts: c.HostNetworks, joining: make(chan struct{}, 1),
		creating: make(chan struct{}, 1),
		closing:  closing,
		close:    sync.OnceFunc(func() { close(closing) }),
	}
}

// Register adds the services to g.
func (s *Server) Register(g grpc.ServiceRegistrar) {
	ovlv1.RegisterNetworkServiceServer(g, &networks{Server: s})
	ovlv1.RegisterHostServiceServer(g, &hosts{Server: s})
	ovlv1.RegisterSubnetServiceServer(g, &subnets{Server: s})
	ovlv1.RegisterEndpointServiceServer(g, &endpoints{Server: s})
	ovlv1.RegisterControllerServiceServer(g, &controller{Server: s})
	ovlv1.RegisterTokenServiceServer(g, &tokens{Server: s})
	ovlv1.RegisterMemberServiceServer(g, &members{Server: s})
	ovlv1.RegisterJoinServiceServer(g, &joins{Server: s})
	ovlv1.RegisterEventServiceServer(g, &events{Server: s})
	ovlv1.RegisterAuthorityServiceServer(g, &authorities{Server: s})
}

// EndWatches ends every stream with UNAVAILABLE, so that a graceful stop does
// not wait for them. Other calls go on. It needs [Server.Options].
func (s *Server) EndWatches() { s.close() }
