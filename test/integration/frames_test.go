package integration

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// listenEnv makes this test binary one that tells what frames come in: on the link
// that it names first, until one holds the text behind that.
const listenEnv = "OVL_TEST_LISTEN"

// TestListen writes each frame as a line of hexadecimal digits.
func TestListen(t *testing.T) {
	name, end, _ := strings.Cut(os.Getenv(listenEnv), " ")
	if name == "" {
		return // it is no test
	}
	link, err := net.InterfaceByName(name)
	if err != nil {
		t.Fatal(err)
	}
	everything := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(everything))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: everything, Ifindex: link.Index}); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(os.Stdout, listening)
	buf := make([]byte, 1<<16)
	for {
		n, from, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if sa, ok := from.(*unix.SockaddrLinklayer); ok && sa.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		fmt.Fprintf(os.Stdout, "%x\n", buf[:n])
		if bytes.Contains(buf[:n], []byte(end)) {
			fmt.Fprintln(os.Stdout, heardAll)
			return
		}
	}
}

// What TestListen says before the first frame and behind the last.
const (
	listening = "listening"
	heardAll  = "heard all"
)

// ear listens on a link of a container.
type ear struct {
	who   labtest.Container
	lines *bufio.Scanner
	cmd   *exec.Cmd
}

// listen returns once all that comes in on a container's link is heard. end is the
// text that the last frame holds.
func listen(t *testing.T, c labtest.Container, link, end string) *ear {
	t.Helper()
	return listenOn(t, c.Lab, c, link, end, "ovlctl", "exec", c.Name, "--")
}

// listenOn does so on a link of the host, or of what the command within leads into.
func listenOn(t *testing.T, l *labtest.Lab, c labtest.Container, link, end string, within ...string) *ear {
	t.Helper()
	cmd := itself(t, l, c.Host, listenEnv, link+" "+end, "TestListen", within...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	e := &ear{c, bufio.NewScanner(out), cmd}
	e.lines.Buffer(nil, 1<<18)
	for e.lines.Scan() {
		if e.lines.Text() == listening {
			return e
		}
	}
	t.Fatalf("%s does not listen: %v", c, cmd.Wait())
	return nil
}

// heard returns the frames up to the last.
func (e *ear) heard(t *testing.T) [][]byte {
	t.Helper()
	// A lost last frame must not hang the test.
	stop := time.AfterFunc(time.Minute, func() { _ = e.cmd.Cancel() })
	defer stop.Stop()
	var frames [][]byte
	for e.lines.Scan() && e.lines.Text() != heardAll {
		frame, err := hex.DecodeString(e.lines.Text())
		if err != nil {
			t.Fatal(err)
		}
		frames = append(frames, frame)
	}
	whole := e.lines.Text() == heardAll
	for e.lines.Scan() { // what a test says in the end
	}
	if err := e.cmd.Wait(); err != nil || !whole {
		t.Fatalf("%s did not hear the last frame: %v", e.who, err)
	}
	return frames
}

// holds reports whether one of the frames is the one of a text.
func holds(frames [][]byte, text string) bool {
	return slices.ContainsFunc(frames, func(f []byte) bool { return tells(f, text) })
}
