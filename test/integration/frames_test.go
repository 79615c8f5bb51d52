package integration

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// frameWord as its first argument makes the program of the tests one that sends
// frames as they are, or tells which come in; it runs in containers.
const frameWord = "frames"

// frameTool sends the frames of a file, or listens until a frame holds a text.
func frameTool(args []string) error {
	if len(args) != 3 {
		return errors.New("usage: frames send LINK FILE | frames listen LINK TEXT")
	}
	link, err := net.InterfaceByName(args[1])
	if err != nil {
		return err
	}
	const everything = 0x0300 // ETH_P_ALL in network byte order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, everything)
	if err != nil {
		return err
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: everything, Ifindex: link.Index}); err != nil {
		return err
	}
	if args[0] == "send" {
		return sendFrames(fd, args[2])
	}
	return listenFrames(fd, args[2])
}

func sendFrames(fd int, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for line := range strings.FieldsSeq(string(text)) {
		frame, err := hex.DecodeString(line)
		if err != nil {
			return err
		}
		if _, err := unix.Write(fd, frame); err != nil {
			return err
		}
	}
	return nil
}

func listenFrames(fd int, end string) error {
	fmt.Println("listening")
	buf := make([]byte, 1<<16)
	for {
		n, from, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if sa, ok := from.(*unix.SockaddrLinklayer); ok && sa.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		fmt.Printf("%x\n", buf[:n])
		if bytes.Contains(buf[:n], []byte(end)) {
			return nil
		}
	}
}

// ear listens on a link of a host or container.
type ear struct {
	who   string
	lines *bufio.Scanner
	done  func() error
}

// listen returns once all that comes in on a link is heard. end is the text that
// the last frame holds.
func listen(t *testing.T, l *labtest.Lab, host, who, link, end string, argv ...string) *ear {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // a lost last frame must not hang the test
	t.Cleanup(cancel)
	cmd, err := l.Command(ctx, host, append(argv, self, frameWord, "listen", link, end)...)
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	e := &ear{who: who, lines: bufio.NewScanner(io.Reader(out)), done: cmd.Wait}
	e.lines.Buffer(nil, 1<<18)
	if !e.lines.Scan() || e.lines.Text() != "listening" {
		t.Fatalf("listen at %s: %v %s", who, cmd.Wait(), said.String())
	}
	return e
}

// listenIn is [listen] in a container.
func listenIn(t *testing.T, c labtest.Container, link, end string) *ear {
	t.Helper()
	return listen(t, c.Lab, c.Host, c.String(), link, end, "ovlctl", "exec", c.Name, "--")
}

// heard returns the frames up to the last.
func (e *ear) heard(t *testing.T) [][]byte {
	t.Helper()
	var frames [][]byte
	for e.lines.Scan() {
		frame, err := hex.DecodeString(e.lines.Text())
		if err != nil {
			t.Fatal(err)
		}
		frames = append(frames, frame)
	}
	if err := e.done(); err != nil {
		t.Fatalf("%s did not hear the last frame: %v", e.who, err)
	}
	return frames
}

// holds reports whether one of the frames is the one of a text.
func holds(frames [][]byte, text string) bool {
	return slices.ContainsFunc(frames, func(f []byte) bool { return tells(f, text) })
}

// sendAll has a container send frames as they are.
func sendAll(t *testing.T, c labtest.Container, link string, frames ...[]byte) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, f := range frames {
		fmt.Fprintf(&text, "%x\n", f)
	}
	file := filepath.Join(t.TempDir(), "frames")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	c.Run(t, self, frameWord, "send", link, file)
}
