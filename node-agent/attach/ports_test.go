package attach

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/ovlnet/ovl/internal/cluster"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

func tcp(ip string, host uint16) cluster.Port {
	p := cluster.Port{Proto: cluster.TCP, HostPort: host, ContainerPort: 80}
	if ip != "" {
		p.HostIP = adr(ip)
	}
	return p
}

func askPorts(name string, ports ...cluster.Port) Request {
	r := ask(name, "blue")
	r.Ports = ports
	return r
}

func TestPortsAreChecked(t *testing.T) {
	for field, ports := range map[string][]*ovlv1.Port{
		"ports[0]": {{Protocol: "sctp", HostPort: 80, ContainerPort: 80}},
		"ports[1]": {{Protocol: "tcp", HostPort: 80, ContainerPort: 80}, {Protocol: "tcp", HostPort: 0, ContainerPort: 80}},
		"ports":    {{Protocol: "tcp", HostPort: 80, ContainerPort: 80}, {Protocol: "tcp", HostPort: 80, ContainerPort: 81}},
	} {
		m := valid()
		m.Ports = ports
		_, err := ParseRequest(m)
		wantCode(t, err, codes.InvalidArgument)
		if got := fields(err); len(got) != 1 || got[0] != field {
			t.Errorf("violations of %v, want %s: %v", got, field, err)
		}
	}
	m := valid()
	m.Ports = make([]*ovlv1.Port, cluster.MaxPorts+1)
	_, err := ParseRequest(m)
	wantCode(t, err, codes.InvalidArgument)

	m.Ports = []*ovlv1.Port{{Protocol: "tcp", HostPort: 81, ContainerPort: 1}, {Protocol: "udp", HostPort: 80, ContainerPort: 1}, {Protocol: "tcp", HostPort: 81, ContainerPort: 1}}
	r, err := ParseRequest(m)
	if err != nil || len(r.Ports) != 2 || r.Ports[0].HostPort != 80 {
		t.Errorf("ports %v, %v; want two, sorted", r.Ports, err)
	}
}

func TestPortsClash(t *testing.T) {
	r := newRig(t, network("blue", 100, 8, "10.64.0.0/16"))
	r.cfg.TunnelPort = 4789
	r.cfg.HostPort = func(p cluster.Port) error {
		if p.HostPort == 22 {
			return refuse(codes.AlreadyExists, "host port %s is in use by sshd", portText(p))
		}
		return nil
	}
	r.mustAttach(t, askPorts("web", tcp("192.0.2.1", 80), tcp("", 443)))
	for _, p := range []cluster.Port{tcp("", 80), tcp("0.0.0.0", 80), tcp("192.0.2.1", 80), tcp("2001:db8::1", 443)} {
		_, err := r.Attach(t.Context(), askPorts("second", p))
		wantCode(t, err, codes.AlreadyExists)
		if err == nil || !strings.Contains(err.Error(), "container web") {
			t.Errorf("%s: %v; want the container's name", p, err)
		}
	}
	_, err := r.Attach(t.Context(), askPorts("second", tcp("", 22)))
	wantCode(t, err, codes.AlreadyExists)
	tunnel := tcp("", 4789)
	tunnel.Proto = cluster.UDP
	_, err = r.Attach(t.Context(), askPorts("second", tunnel))
	wantCode(t, err, codes.AlreadyExists)

	// After a restart too; and free again once it is gone.
	r = startRig(t, r.db, r.loop, r.subnets)
	if att := r.List()[0]; len(att.Ports) != 2 || att.Ports[0] != tcp("192.0.2.1", 80) || att.Ports[1] != tcp("", 443) {
		t.Errorf("the journal holds the ports %v", att.Ports)
	}
	_, err = r.Attach(t.Context(), askPorts("second", tcp("", 80)))
	wantCode(t, err, codes.AlreadyExists)
	if err := r.Detach(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	r.mustAttach(t, askPorts("second", tcp("", 80)))
	// The same again is the same; other ports are not.
	r.mustAttach(t, askPorts("second", tcp("", 80)))
	_, err = r.Attach(t.Context(), askPorts("second", tcp("", 81)))
	wantCode(t, err, codes.AlreadyExists)
	if err := r.Detach(t.Context(), "second"); err != nil {
		t.Fatal(err)
	}
	if len(r.index.ports) > 0 {
		t.Errorf("still claimed: %v", r.index.ports)
	}
	r.wantEmpty(t)
}

func TestPortsThatLeadNowhereAreRefused(t *testing.T) {
	quiet := network("blue", 100, 8, "10.64.0.0/16")
	quiet.Internal = true
	r := newRig(t, quiet)
	_, err := r.Attach(t.Context(), askPorts("web", tcp("", 80)))
	wantCode(t, err, codes.FailedPrecondition)
	if err == nil || !strings.Contains(err.Error(), "80:80/tcp leads nowhere") {
		t.Errorf("error %v, want the port", err)
	}
	r.wantEmpty(t)
}

func TestHostPortNamesTheProcess(t *testing.T) {
	const loopback = "127.79.86.75" // at 127.0.0.1 another process might get the port when it is free
	l, err := net.Listen("tcp4", loopback+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	u, err := net.ListenPacket("udp4", loopback+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	for _, at := range []net.Addr{l.Addr(), u.LocalAddr()} {
		p := cluster.Port{Proto: cluster.Proto(at.Network()), HostPort: netip.MustParseAddrPort(at.String()).Port(), ContainerPort: 80}
		for _, ip := range []string{loopback, "0.0.0.0", ""} {
			p.HostIP = netip.Addr{}
			if ip != "" {
				p.HostIP = adr(ip)
			}
			err := HostPort(p)
			wantCode(t, err, codes.AlreadyExists)
			if err == nil || !strings.Contains(err.Error(), `process "attach.test"`) {
				t.Errorf("%s: %v; want this process", p, err)
			}
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := HostPort(tcp(loopback, netip.MustParseAddrPort(l.Addr().String()).Port())); err != nil {
		t.Errorf("a port that is free: %v", err)
	}
	wantCode(t, HostPort(tcp("192.0.2.77", 80)), codes.FailedPrecondition) // TEST-NET-1: nobody's
}

func FuzzListener(f *testing.F) {
	f.Add("   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1\n")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		inode, ok := listener(text, tcp("", 8080))
		if ok && !strings.Contains(text, inode) {
			t.Errorf("%q is not in the text", inode)
		}
	})
}
