package integration

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"golang.org/x/sys/unix"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// captureEnv makes this test binary a capture of what leaves a host by its
// underlay and by all its VXLAN devices, also those that are made later, into the
// file that it names.
const captureEnv = "OVL_TEST_CAPTURE"

// TestCapture is that capture. It ends on SIGINT, when it has written all that
// was sent before. tcpdump cannot do this: it does not start in a lab of an
// ordinary user, nor does it take up new devices.
func TestCapture(t *testing.T) {
	path := os.Getenv(captureEnv)
	if path == "" {
		return // it is no test
	}
	// 0x0300 is ETH_P_ALL in network byte order. No device: all of them.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL))))
	if err != nil {
		t.Fatal(err)
	}
	if err := outgoingOnly(fd); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20); err != nil {
		// An ordinary user gets as much as there is: socket(7), rmem_max.
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 64<<20); err != nil {
			t.Fatal(err)
		}
	}
	// A quiet moment after the signal is the end.
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}); err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	first := pcapgo.NgInterface{Name: "none", LinkType: layers.LinkTypeEthernet, TimestampResolution: 9}
	w, err := pcapgo.NewNgWriterInterface(file, first, pcapgo.DefaultNgWriterOptions)
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt)
	fmt.Fprintln(os.Stdout, "ready")
	if err := copyFrames(w, fd, stop); err != nil {
		t.Fatal(err)
	}
	if s, err := unix.GetsockoptTpacketStats(fd, unix.SOL_PACKET, unix.PACKET_STATISTICS); err != nil || s.Drops > 0 {
		t.Fatalf("lost %d frames, %v", s.Drops, err)
	}
	if err := errors.Join(w.Flush(), file.Close()); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(os.Stdout, "complete")
}

// outgoingOnly has the kernel pass on what a device sends alone: whatever one
// receives, another has sent. The program is classic BPF, and what it loads an
// extension of Linux (linux/filter.h).
func outgoingOnly(fd int) error {
	const pktType = 0xfffff004 // SKF_AD_OFF + SKF_AD_PKTTYPE
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: pktType},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.PACKET_OUTGOING, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 1 << 18},
		{Code: unix.BPF_RET | unix.BPF_K},
	}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}); err != nil {
		return fmt.Errorf("attach filter: %w", err)
	}
	return nil
}

// copyFrames writes the frames of the devices that matter, until it is told to
// stop and nothing more comes.
func copyFrames(w *pcapgo.NgWriter, fd int, stop <-chan os.Signal) error {
	ids := map[int]int{} // by number of the link; 0: it does not matter
	buf := make([]byte, 1<<17)
	for {
		n, from, err := unix.Recvfrom(fd, buf, 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			select {
			case <-stop:
				return nil
			default:
				continue
			}
		case err != nil:
			return fmt.Errorf("receive: %w", err)
		}
		ll, ok := from.(*unix.SockaddrLinklayer)
		if !ok {
			continue
		}
		id, known := ids[ll.Ifindex]
		if !known {
			if id, err = addLink(w, ll.Ifindex); err != nil {
				return err
			}
			ids[ll.Ifindex] = id
		}
		if id == 0 {
			continue
		}
		ci := gopacket.CaptureInfo{Timestamp: time.Now(), CaptureLength: n, Length: n, InterfaceIndex: id}
		if err := w.WritePacket(ci, buf[:n]); err != nil {
			return err
		}
	}
}

func addLink(w *pcapgo.NgWriter, index int) (int, error) {
	link, err := net.InterfaceByIndex(index)
	if err != nil || (link.Name != "eth0" && !strings.HasPrefix(link.Name, "ovx")) {
		return 0, nil //nolint:nilerr // a link that has gone already is a container's
	}
	return w.AddInterface(pcapgo.NgInterface{Name: link.Name, LinkType: layers.LinkTypeEthernet, TimestampResolution: 9})
}

// capture is a capture that runs on a host.
type capture struct {
	host, path string
	cmd        *exec.Cmd
	said       *bufio.Scanner
}

// itself returns a command on a host that runs this test binary with a variable
// set, which makes it something else.
func itself(t *testing.T, l *labtest.Lab, host, env, value, test string, within ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	argv := append(within, "env", env+"="+value, "OVL_BIN_DIR="+os.Getenv("OVL_BIN_DIR"), self, "-test.run=^"+test+"$")
	cmd, err := l.Command(t.Context(), host, argv...)
	if err != nil {
		t.Fatal(err)
	}
	return cmd
}

func startCapture(t *testing.T, l *labtest.Lab, host string) *capture {
	t.Helper()
	c := &capture{host: host, path: filepath.Join(t.TempDir(), host+".pcapng")}
	c.cmd = itself(t, l, host, captureEnv, c.path, "TestCapture")
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.said = bufio.NewScanner(out)
	for c.said.Scan() {
		if c.said.Text() == "ready" {
			return c
		}
	}
	t.Fatalf("the capture on %s does not start", host)
	return nil
}

// frame is one captured frame.
type frame struct {
	host, link string
	packet     gopacket.Packet
}

func (f frame) String() string {
	var all []string
	for _, l := range f.packet.Layers() {
		all = append(all, gopacket.LayerString(l))
	}
	return fmt.Sprintf("%s %s: %s", f.host, f.link, strings.Join(all, " / "))
}

// stop ends the capture and returns its frames.
func (c *capture) stop(t *testing.T) []frame {
	t.Helper()
	if err := lab.Interrupt(c.cmd); err != nil {
		t.Fatal(err)
	}
	var said []string
	for c.said.Scan() {
		said = append(said, c.said.Text())
	}
	_ = c.cmd.Wait() // what it said tells
	if len(said) == 0 || said[0] != "complete" {
		t.Fatalf("the capture on %s is not complete: %v", c.host, said)
	}
	file, err := os.Open(c.path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	r, err := pcapgo.NewNgReader(file, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	var frames []frame
	for {
		data, ci, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return frames
		}
		if err != nil {
			t.Fatal(err)
		}
		link, err := r.Interface(ci.InterfaceIndex)
		if err != nil {
			t.Fatal(err)
		}
		frames = append(frames, frame{c.host, link.Name, gopacket.NewPacket(data, layers.LayerTypeEthernet, gopacket.Default)})
	}
}

// sendEnv makes this test binary a sender of raw frames through the link that it
// names.
const sendEnv = "OVL_TEST_SEND"

// TestSendFrames sends each line of its input, a frame in hexadecimal digits.
func TestSendFrames(t *testing.T) {
	name := os.Getenv(sendEnv)
	if name == "" {
		return // it is no test
	}
	link, err := net.InterfaceByName(name)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		b, err := hex.DecodeString(lines.Text())
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Sendto(fd, b, 0, &unix.SockaddrLinklayer{Ifindex: link.Index}); err != nil {
			t.Fatal(err)
		}
	}
}

// sendFrames sends frames from a container's interface, whatever its kernel
// would say of them.
func sendFrames(t *testing.T, c labtest.Container, link string, frames [][]byte) {
	t.Helper()
	sendOn(t, c.Lab, c.Host, link, frames, "ovlctl", "exec", c.Name, "--")
}

// sendOn sends frames on a link of a host, or of what the command within leads into.
func sendOn(t *testing.T, l *labtest.Lab, host, link string, frames [][]byte, within ...string) {
	t.Helper()
	cmd := itself(t, l, host, sendEnv, link, "TestSendFrames", within...)
	var in strings.Builder
	for _, f := range frames {
		in.WriteString(hex.EncodeToString(f) + "\n")
	}
	cmd.Stdin = strings.NewReader(in.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("send frames from %s %v: %v: %s", host, within, err, out)
	}
}
