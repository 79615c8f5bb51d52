package attach

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	grpcpeer "google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// Group is the group whose members may use the socket beside root, where there
// is one of that name.
const Group = "ovl"

// peerInfo is who the kernel says is at the other end of a unix socket: as of
// connect(2), whatever the file's mode was then (SO_PEERCRED of unix(7)).
type peerInfo struct {
	credentials.CommonAuthInfo
	uid, gid uint32
	err      error
}

// AuthType implements [credentials.AuthInfo].
func (peerInfo) AuthType() string { return "unix" }

// peerCredentials asks the kernel about each connection. Nothing of it is on the
// wire.
type peerCredentials struct{}

// ServerHandshake implements [credentials.TransportCredentials].
func (peerCredentials) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	info := peerInfo{CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}
	info.uid, info.gid, info.err = peerOf(c)
	return c, info, nil
}

// ClientHandshake implements [credentials.TransportCredentials].
func (peerCredentials) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("these credentials are a server's")
}

// Info implements [credentials.TransportCredentials].
func (peerCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "unix"}
}

// Clone implements [credentials.TransportCredentials].
func (p peerCredentials) Clone() credentials.TransportCredentials { return p }

// OverrideServerName implements [credentials.TransportCredentials].
func (peerCredentials) OverrideServerName(string) error { return nil }

func peerOf(c net.Conn) (uid, gid uint32, err error) {
	s, ok := c.(*net.UnixConn)
	if !ok {
		return 0, 0, fmt.Errorf("a %T has no peer", c)
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return 0, 0, err
	}
	var cred *unix.Ucred
	var gotErr error
	err = raw.Control(func(fd uintptr) { cred, gotErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(err, gotErr); err != nil {
		return 0, 0, err
	}
	return cred.Uid, cred.Gid, nil
}

// admit lets root, the agent's own user and the members of the group in.
func admit(ctx context.Context) error {
	p, ok := grpcpeer.FromContext(ctx)
	if !ok {
		return errStranger
	}
	info, ok := p.AuthInfo.(peerInfo)
	if !ok || info.err != nil {
		return errStranger
	}
	if info.uid == 0 || int(info.uid) == os.Geteuid() || inGroup(info.uid, info.gid) {
		return nil
	}
	return errStranger
}

var errStranger = status.Error(codes.PermissionDenied, "only root and the members of group "+Group+" may ask the agent: who can attach can put any container on any network")

// inGroup reports whether the user is in the group, by the group that the process
// had or by what this host's files say.
func inGroup(uid, gid uint32) bool {
	g, err := user.LookupGroup(Group)
	if err != nil {
		return false
	}
	if g.Gid == strconv.FormatUint(uint64(gid), 10) {
		return true
	}
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return false
	}
	groups, err := u.GroupIds()
	return err == nil && slices.Contains(groups, g.Gid)
}

// share gives the socket to the group, if there is one. In a user namespace in
// which it has no number the socket stays root's.
func share(path string) error {
	g, err := user.LookupGroup(Group)
	if err != nil {
		return nil //nolint:nilerr // no such group: root's alone
	}
	gid, err := strconv.Atoi(g.Gid)
	if err == nil {
		err = os.Chown(path, -1, gid)
	}
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPERM) {
		return nil
	}
	return err
}

func admitUnary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if err := admit(ctx); err != nil {
		return nil, err
	}
	return next(ctx, req)
}

func admitStream(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if err := admit(s.Context()); err != nil {
		return err
	}
	return next(srv, s)
}
