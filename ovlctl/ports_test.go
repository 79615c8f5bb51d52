package main

import (
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/wire"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

func TestParsePorts(t *testing.T) {
	for in, want := range map[string]string{
		"8080:80":                     "8080:80/tcp",
		"8080:80/udp":                 "8080:80/udp",
		"8080:80/TCP":                 "8080:80/tcp",
		"127.0.0.1:8080:80":           "127.0.0.1:8080:80/tcp",
		"0.0.0.0:65535:1":             "0.0.0.0:65535:1/tcp",
		"[2001:db8::1]:5353:53/udp":   "[2001:db8::1]:5353:53/udp",
		"8000-8002:80-82":             "8000:80/tcp 8001:81/tcp 8002:82/tcp",
		"10.0.0.1:65534-65535:1-2":    "10.0.0.1:65534:1/tcp 10.0.0.1:65535:2/tcp",
		"[::]:80-80:80":               "[::]:80:80/tcp",
		"8080":                        "",
		"":                            "",
		":":                           "",
		"8080:":                       "",
		":80":                         "",
		"8080:80/sctp":                "",
		"8080:80/":                    "",
		"0:80":                        "",
		"80:0":                        "",
		"65536:80":                    "",
		"-1:80":                       "",
		"+80:80":                      "",
		"80:+80":                      "",
		"8000-8001:80":                "",
		"8001-8000:80-81":             "",
		"1-65535:1-65535":             "",
		"localhost:80:80":             "",
		"2001:db8::1:80:80":           "",
		"[10.0.0.1]:80:80":            "",
		"[::1]:80:80":                 "",
		"[fe80::1%eth0]:80:80":        "",
		"[::ffff:10.0.0.1]:80:80":     "",
		"[2001:db8::1:80:80":          "",
		"224.0.0.1:80:80":             "",
		"a\nb:80:80":                  "",
		"10.0.0.1:80:80/tcp/udp":      "",
		"10.0.0.1:10.0.0.1:80:80/tcp": "",
	} {
		ports, err := parsePorts(in)
		var got []string
		for _, p := range ports {
			got = append(got, p.String())
		}
		if strings.Join(got, " ") != want || (err == nil) != (want != "") {
			t.Errorf("%q: %v, %v; want %q", in, got, err, want)
		}
		if err != nil && (exitCode(err) != exitUsage || strings.ContainsAny(err.Error(), "\n\r")) {
			t.Errorf("%q: code %d, error %q; want a usage error of one line", in, exitCode(err), err)
		}
	}
}

func TestPublish(t *testing.T) {
	got, err := publish([]string{"81:81", "80:80/udp", "80:80", "81:81"})
	if err != nil || len(got) != 3 || got[0].GetProtocol() != "tcp" || got[2].GetHostPort() != 81 {
		t.Errorf("got %v, %v; want three, sorted", got, err)
	}
	if _, err := publish([]string{"1-1024:1-1024", "2000:1"}); err == nil {
		t.Error("1025 ports are accepted")
	}
}

func TestPortCell(t *testing.T) {
	for want, in := range map[string][]string{
		"":             nil,
		"8080->80/tcp": {"8080:80"},
		"8000-8002->80-82/tcp,8000-8001->80-81/udp":                            {"8000-8002:80-82", "8000-8001:80-81/udp"},
		"8080->80/tcp,8081->80/tcp":                                            {"8080:80", "8081:80"},
		"9000->90/tcp,127.0.0.1:8000-8001->80-81/tcp,[2001:db8::1]:80->80/udp": {"127.0.0.1:8000-8001:80-81", "[2001:db8::1]:80:80/udp", "9000:90"},
	} {
		ports, err := publish(in)
		if err != nil {
			t.Fatal(err)
		}
		if got := portCell(&ovlv1.Attachment{Ports: ports}); got != want {
			t.Errorf("%v: got %s, want %s", in, got, want)
		}
	}
	if got := portCell(&ovlv1.Attachment{Ports: []*ovlv1.Port{{Protocol: "\x1b[31m"}}}); got != "" {
		t.Errorf("a hostile port shows as %q", got)
	}
}

func FuzzParsePorts(f *testing.F) {
	for _, s := range []string{"8080:80", "127.0.0.1:1-9:1-9/udp", "[2001:db8::1]:80:80", "[::ffff:1.2.3.4]:1:1", "1-65535:1-65535"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ports, err := parsePorts(s)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r\x1b") {
				t.Errorf("error for %q has more than a line: %q", s, err)
			}
			return
		}
		if len(ports) < 1 || len(ports) > cluster.MaxPorts {
			t.Fatalf("%q: %d ports", s, len(ports))
		}
		for _, p := range ports {
			again, err := parsePorts(p.String())
			if err != nil || len(again) != 1 || again[0] != p {
				t.Errorf("%q: %s reads as %v, %v", s, p, again, err)
			}
			if back, err := wire.ParsePort(wire.Port(p)); err != nil || back != p {
				t.Errorf("%q: %s comes back as %s, %v", s, p, back, err)
			}
		}
	})
}
