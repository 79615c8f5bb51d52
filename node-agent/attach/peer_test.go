package attach

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// strangerEnv makes this test binary somebody who asks at the socket it names.
const strangerEnv = "OVL_TEST_STRANGER"

func TestStranger(t *testing.T) {
	path := os.Getenv(strangerEnv)
	if path == "" {
		return // it is no test
	}
	conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = ovlv1.NewAgentServiceClient(conn).GetStatus(t.Context(), &ovlv1.GetAgentStatusRequest{})
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("a stranger is told %v", err)
	}
}

// Whoever gets as far as the socket and is neither root nor in the group is
// refused, whatever the mode of the file.
func TestStrangerAtTheSocket(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be somebody else: the user's own socket has nobody else at it")
	}
	dir, err := os.MkdirTemp("", "ovl") //nolint:usetesting // one that others may enter
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "agent.sock")
	serveAt(t, newRig(t), path)
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	self := filepath.Join(dir, "stranger")
	if err := os.WriteFile(self, data, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestStranger$")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), strangerEnv+"="+path)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 4242, Gid: 4242}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
