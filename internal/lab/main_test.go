package lab

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/ovlnet/ovl/internal/identity"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// TestMain makes the test binary stand in for all that a lab starts: its own
// two processes, and two small daemons that answer as the real ones do.
func TestMain(m *testing.M) {
	var err error
	switch {
	case filepath.Base(os.Args[0]) == agentBinary:
		err = standInAgent()
	case filepath.Base(os.Args[0]) == controllerBinary:
		err = standInController()
	case len(os.Args) == 4 && os.Args[1] == "lab" && os.Args[2] == KeeperCommand:
		err = Keep(os.Args[3])
	case len(os.Args) == 4 && os.Args[1] == "lab" && os.Args[2] == HostCommand:
		err = HoldHost(os.Args[3])
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

type agentService struct {
	ovlv1.UnimplementedAgentServiceServer
}

func (agentService) GetStatus(context.Context, *ovlv1.GetAgentStatusRequest) (*ovlv1.AgentStatus, error) {
	return &ovlv1.AgentStatus{Ownership: "held"}, nil
}

func standInAgent() error {
	l, err := net.Listen("unix", "/run/ovl/agent.sock")
	if err != nil {
		return err
	}
	s := grpc.NewServer()
	ovlv1.RegisterAgentServiceServer(s, agentService{})
	return serveUntilTerm(s, l)
}

type controllerServices struct {
	ovlv1.UnimplementedControllerServiceServer
	ovlv1.UnimplementedHostServiceServer
	ovlv1.UnimplementedTokenServiceServer
}

func (controllerServices) CreateToken(context.Context, *ovlv1.CreateTokenRequest) (*ovlv1.Token, error) {
	return &ovlv1.Token{Text: "token"}, nil
}

func (controllerServices) GetStatus(context.Context, *ovlv1.GetStatusRequest) (*ovlv1.ControllerStatus, error) {
	return &ovlv1.ControllerStatus{EtcdHealthy: true}, nil
}

func (controllerServices) GetHost(_ context.Context, r *ovlv1.GetHostRequest) (*ovlv1.Host, error) {
	return &ovlv1.Host{Name: r.GetName(), State: "ready"}, nil
}

func standInController() error {
	flags := flag.NewFlagSet(controllerBinary, flag.ContinueOnError)
	listen := flags.String("listen", "", "")
	_ = flags.String("etcd-listen", "", "")
	_ = flags.String("data-dir", "", "")
	if err := flags.Parse(os.Args[1:]); err != nil {
		return err
	}
	own, err := standInIdentity()
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	s := grpc.NewServer(grpc.Creds(credentials.NewTLS(own.Demanding(nil))))
	ovlv1.RegisterControllerServiceServer(s, controllerServices{})
	ovlv1.RegisterHostServiceServer(s, controllerServices{})
	ovlv1.RegisterTokenServiceServer(s, controllerServices{})
	return serveUntilTerm(s, l)
}

// standInIdentity leaves the files that a controller leaves for the admin of its
// machine, and returns what it shows itself.
func standInIdentity() (*identity.Credential, error) {
	ca, err := identity.NewAuthority(time.Now())
	if err != nil {
		return nil, err
	}
	admin, err := issue(ca, identity.Who{Role: identity.Admin, Name: identity.Local})
	if err != nil {
		return nil, err
	}
	own, err := issue(ca, identity.Who{Role: identity.Controller, Name: Control})
	if err != nil {
		return nil, err
	}
	data, err := identity.EncodePair(admin)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(ownCA), 0o700)
	}
	if err == nil {
		err = identity.Write(ownCA, identity.EncodeCerts(ca.Roots()))
	}
	if err == nil {
		err = identity.Write(ownAdmin, data)
	}
	return identity.NewCredential(own, ca.Roots(), time.Now), err
}

func issue(ca *identity.Authority, who identity.Who) (identity.Pair, error) {
	key, err := identity.NewKey()
	if err != nil {
		return identity.Pair{}, err
	}
	chain, err := ca.Issue(who, key.Public(), identity.Names{}, time.Now(), time.Hour)
	return identity.Pair{Chain: chain, Key: key}, err
}

func serveUntilTerm(s *grpc.Server, l net.Listener) error {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, s.Stop)
	return s.Serve(l)
}

// up makes a lab of the stand-ins that ends with the test.
func up(t *testing.T, c Config) *Lab {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c.BinDir, c.Tether = t.TempDir(), true
	for _, b := range []string{keeperBinary, agentBinary, controllerBinary} {
		if err := os.Symlink(self, filepath.Join(c.BinDir, b)); err != nil {
			t.Fatal(err)
		}
	}
	c.Name = "t"
	if c.Root == "" {
		c.Root = shortDir(t)
	}
	l, err := Up(t.Context(), c, func(s string) { t.Log(s) })
	if err != nil {
		SkipIfForbidden(t, err)
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return l
}

// shortDir is a temporary directory whose path leaves room for the name of a
// unix socket: 107 bytes in all, unix(7).
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ovl") //nolint:usetesting // t.TempDir is too long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(dir, "labs")
}

// poll asks until ok, which another process makes true, or fails the test.
func poll(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute) // of a busy machine
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within a minute", what)
		}
		time.Sleep(10 * time.Millisecond) // of another process
	}
}
