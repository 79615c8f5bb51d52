package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/ovlnet/ovl/internal/identity"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// A lab is a cluster as any other: hosts join with a token, and everybody shows
// a certificate. That its people may do everything from every host is what the
// admin's certificate of the controller's machine is copied to its members for,
// each time that the controller renews it; [Outside] gets none.
const (
	dataDir   = "/var/lib/ovl" // of every daemon
	ownDir    = dataDir + "/identity"
	ownCA     = ownDir + "/roots.pem"
	ownAdmin  = ownDir + "/admin.pem"
	ownMember = ownDir + "/host.pem"
	copyDir   = "/etc/ovl"
	copyCA    = copyDir + "/ca.pem"
	copyAdmin = copyDir + "/admin.pem"
	// tokenTTL is how long a token lives that a start of agents takes: they join
	// within [Config.Ready].
	tokenTTL = 10 * time.Minute
)

// asAdmin returns a connection to the controller of the lab's admin.
func (k *keeper) asAdmin() (*grpc.ClientConn, error) {
	control := k.hosts[Control]
	pair, err := identity.ReadPair(control.path(ownAdmin), "")
	if err != nil {
		return nil, err
	}
	data, err := identity.Read(control.path(ownCA))
	if err != nil {
		return nil, err
	}
	roots, err := identity.ParseCerts(data)
	if err != nil {
		return nil, fmt.Errorf("read the lab's CA: %w", err)
	}
	c := identity.NewCredential(pair, roots, time.Now)
	return dial(k.config.controller(), nil, credentials.NewTLS(c.Client()))
}

// shareAdmin copies what makes an admin to the control host and to the members.
func (k *keeper) shareAdmin() error {
	control := k.hosts[Control]
	for _, h := range k.ordered {
		if h.Name == Outside {
			continue
		}
		if err := os.MkdirAll(h.path(copyDir), 0o700); err != nil {
			return fmt.Errorf("copy the admin's certificate to %s: %w", h.Name, err)
		}
		for from, to := range map[string]string{ownCA: copyCA, ownAdmin: copyAdmin} {
			data, err := identity.Read(control.path(from))
			if err == nil {
				err = identity.Write(h.path(to), data)
			}
			if err != nil {
				return fmt.Errorf("copy the admin's certificate to %s: %w", h.Name, err)
			}
		}
	}
	return nil
}

// followAdmin copies what makes an admin whenever the controller has renewed it,
// for as long as the keeper lives.
func (k *keeper) followAdmin() error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("watch the admin's certificate: %w", err)
	}
	// The directory is watched, since each renewal renames a new file into it.
	if _, err := unix.InotifyAddWatch(fd, k.hosts[Control].path(ownDir), unix.IN_MOVED_TO); err != nil {
		return errors.Join(fmt.Errorf("watch the admin's certificate: %w", err), unix.Close(fd))
	}
	go func() {
		events := make([]byte, 4<<10)
		for {
			if _, err := unix.Read(fd, events); err != nil && !errors.Is(err, unix.EINTR) {
				return
			}
			if err := k.shareAdmin(); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}
	}()
	return nil
}

// joined reports whether a host has joined the lab's cluster.
func (h *keptHost) joined() bool {
	_, err := os.Stat(h.path(ownMember))
	return !errors.Is(err, fs.ErrNotExist)
}

// token returns the text of a token for as many hosts; none need none.
func (k *keeper) token(ctx context.Context, hosts int) (string, error) {
	if hosts == 0 {
		return "", nil
	}
	conn, err := k.asAdmin()
	if err != nil {
		return "", fmt.Errorf("get a token for hosts that have not joined yet: %w", err)
	}
	defer conn.Close()
	t, err := ovlv1.NewTokenServiceClient(conn).CreateToken(ctx, &ovlv1.CreateTokenRequest{
		Uses: uint32(hosts), TtlSeconds: int64(tokenTTL / time.Second),
	})
	if err != nil {
		return "", fmt.Errorf("get a token for hosts that have not joined yet: %w", err)
	}
	return t.GetText(), nil
}
