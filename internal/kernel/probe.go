package kernel

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
)

// Probe checks that this host can do what a Kernel needs, in a network
// namespace that it makes and throws away. The error is one line that says what
// is missing and what to do.
func Probe(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if _, err := findFirewall(); err != nil {
		return err
	}
	result := make(chan error)
	go func() {
		// Never unlocked: the thread ends with the goroutine, and the namespace
		// with the thread.
		runtime.LockOSThread()
		result <- probeHere()
	}()
	return <-result
}

// probeHere makes a link of each kind in a new namespace of this thread.
func probeHere() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("make a network namespace: %w: run as root, or with CAP_NET_ADMIN and CAP_SYS_ADMIN", err)
	}
	f, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return fmt.Errorf("open a network namespace: %w: is /proc mounted?", err)
	}
	defer func() { _ = f.Close() }()
	c, err := openConn()
	if err != nil {
		return err
	}
	defer c.close()
	s := &space{conn: c, file: f, index: map[string]int32{}}
	l := &Linux{host: s}
	probed := []dataplane.Link{
		{LinkKey: dataplane.LinkKey{Name: "ovb0"}, Kind: dataplane.Bridge},
		{
			LinkKey: dataplane.LinkKey{Name: "ovx0"}, Kind: dataplane.VXLAN, MTU: 1450,
			VXLAN: dataplane.VXLANAttrs{VNI: 1, Port: 4789, Local: netip.AddrFrom4([4]byte{192, 0, 2, 1})},
		},
		{LinkKey: dataplane.LinkKey{Name: "eth0"}, Kind: dataplane.Veth, MTU: 1450, Peer: "ove0"},
	}
	for _, r := range probed {
		r.MAC = cluster.MAC{2, 0, 0, 0, 0, 1}
		in := s
		if r.Kind == dataplane.Veth {
			in = &space{ns: "probe", conn: c, file: f}
		}
		if err := explain(r.Kind, l.makeLink(in, r)); err != nil {
			return err
		}
	}
	return nil
}

// explain says what a kernel lacks that refuses to make a kind of link.
func explain(kind dataplane.LinkKind, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("make a link of kind %s: %w: run as root, or with CAP_NET_ADMIN", kind, err)
	case errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("make a link of kind %s: this kernel has none: load its module (modprobe %s) or install the distribution's extra kernel modules", kind, kind)
	}
	return fmt.Errorf("make a link of kind %s: %w", kind, err)
}
