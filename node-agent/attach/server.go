package attach

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// Socket is where the agent listens unless told otherwise.
const Socket = "/run/ovl/agent.sock"

const (
	// maxMessage bounds what a client may send, in bytes.
	maxMessage = 1 << 20
	// socketMode lets root and the socket's group in, and the kernel is asked who
	// connects besides: who can attach can put any container on any network.
	socketMode = 0o660
	// probe bounds the question whether somebody answers at the socket.
	probe = 2 * time.Second
	// maxSocket is the longest path of a socket, in bytes: sun_path of unix(7)
	// less the final zero.
	maxSocket = 107
	// farewell bounds how long running requests may go on at the end.
	farewell = 5 * time.Second
)

// Listen listens at path, for root and the socket's group. A socket that another process
// answers at is refused; one that nobody answers at is left from a crash and replaced.
func Listen(path string) (net.Listener, error) {
	return listen(path, func(tmp string) error {
		if err := share(tmp); err != nil {
			return err
		}
		return os.Chmod(tmp, socketMode)
	})
}

// ListenAlone is Listen for root alone.
func ListenAlone(path string) (net.Listener, error) {
	return listen(path, func(tmp string) error { return os.Chmod(tmp, 0o600) })
}

// listen listens at path, once admit has said who may connect.
func listen(path string, admit func(tmp string) error) (net.Listener, error) {
	if len(path) > maxSocket {
		return nil, fmt.Errorf("listen at %s: %d bytes, and clients reach at most %d: name another place", path, len(path), maxSocket)
	}
	if err := vacate(path); err != nil {
		return nil, fmt.Errorf("listen at %s: %w", path, err)
	}
	// Bound under another name and moved into place with its mode set, so that
	// nobody meets it half-made and the process's umask stays as it is.
	tmp := filepath.Join(filepath.Dir(path), fmt.Sprintf(".%d.sock", os.Getpid()))
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("listen at %s: %w", path, err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: tmp})
	if err != nil {
		return nil, fmt.Errorf("listen at %s: %w", path, err)
	}
	l.SetUnlinkOnClose(false)
	s := &socket{UnixListener: l, path: path}
	if err := s.place(tmp, admit); err != nil {
		_ = l.Close()
		_ = os.Remove(tmp)
		return nil, fmt.Errorf("listen at %s: %w", path, err)
	}
	return s, nil
}

// vacate makes room for a socket at path.
func vacate(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // the socket's own mode guards it
		return err
	}
	st, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Mode().Type() != os.ModeSocket {
		return errors.New("something that is not a socket is there: remove it, or name another place")
	}
	conn, err := (&net.Dialer{Timeout: probe}).DialContext(context.Background(), "unix", path)
	switch {
	case err == nil:
		_ = conn.Close()
		return errors.New("another agent answers there: stop it, or name another place")
	case errors.Is(err, unix.ECONNREFUSED):
		return os.Remove(path)
	case errors.Is(err, os.ErrNotExist):
		return nil
	}
	return err // such as a full backlog: somebody is there
}

// socket is a listener that takes its file away when it closes, unless another
// process has put its own there.
type socket struct {
	*net.UnixListener
	path   string
	made   unix.Stat_t
	remove sync.Once
}

func (s *socket) place(tmp string, admit func(string) error) error {
	if err := admit(tmp); err != nil {
		return err
	}
	if err := unix.Stat(tmp, &s.made); err != nil {
		return err
	}
	return os.Rename(tmp, s.path)
}

// Close implements [net.Listener].
func (s *socket) Close() error {
	s.remove.Do(func() {
		var st unix.Stat_t
		// The inode's number alone may be in use again; the time of its making
		// survives a chown by the administrator.
		if unix.Stat(s.path, &st) == nil && st.Ino == s.made.Ino && st.Mtim == s.made.Mtim {
			_ = os.Remove(s.path) // a stale one is replaced at the next start
		}
	})
	return s.UnixListener.Close()
}

// Serve answers at l until ctx is done, with the standard health and reflection
// services beside the two; then it lets running requests end, for a while.
func Serve(ctx context.Context, l net.Listener, s *Service, a *AgentService) error {
	server := grpc.NewServer(grpc.MaxRecvMsgSize(maxMessage), grpc.Creds(peerCredentials{}),
		grpc.ChainUnaryInterceptor(admitUnary), grpc.ChainStreamInterceptor(admitStream))
	ovlv1.RegisterAttachmentServiceServer(server, s)
	ovlv1.RegisterAgentServiceServer(server, a)
	h := health.NewServer()
	healthpb.RegisterHealthServer(server, h)
	reflection.Register(server)

	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve the agent's socket: %w", err)
	case <-ctx.Done():
	}
	h.Shutdown()
	hard := time.AfterFunc(farewell, server.Stop)
	defer hard.Stop()
	server.GracefulStop()
	if err := <-ended; err != nil {
		return fmt.Errorf("serve the agent's socket: %w", err)
	}
	return nil
}
