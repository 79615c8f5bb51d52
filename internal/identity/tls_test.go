package identity_test

import (
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ovlnet/ovl/internal/identity"
)

// shake connects the two over loopback and returns how each end saw it; the
// server's first byte is what tells a client of TLS 1.3 that it was accepted.
func shake(t *testing.T, server, client *tls.Config) (seen tls.ConnectionState, serverErr, clientErr error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		raw, err := l.Accept()
		if err != nil {
			done <- err
			return
		}
		defer raw.Close()
		conn := tls.Server(raw, server)
		if err = conn.Handshake(); err == nil {
			seen = conn.ConnectionState()
			_, err = conn.Write([]byte{1})
		}
		done <- err
	}()
	conn, err := tls.Dial("tcp", l.Addr().String(), client)
	if err == nil {
		defer conn.Close()
		_, err = conn.Read(make([]byte, 1))
	}
	return seen, <-done, err
}

func clock() time.Time { return now }

func credential(t *testing.T, a *identity.Authority, who identity.Who) *identity.Credential {
	t.Helper()
	return identity.NewCredential(issue(t, a, who, now, time.Hour), a.Roots(), clock)
}

func TestHandshakes(t *testing.T) {
	own, other := authority(t), authority(t)
	server := credential(t, own, identity.Who{Role: identity.Controller, Name: "c"})
	client := credential(t, own, host())
	stranger := credential(t, other, host())
	fake := credential(t, own, host()) // a member that poses as a controller

	for _, c := range []struct {
		name           string
		server, client *tls.Config
		serverSays     string // "" = content
		clientSays     string
	}{
		{"members", server.Demanding(nil), client.Client(), "", ""},
		{"asked", server.Asking(), stranger.Client(), "tls", "another cluster's CA"}, // the client turns away first
		{"stranger", server.Demanding(nil), withoutVerification(stranger), "unknown authority", "unknown certificate authority"},
		{"no certificate", server.Demanding(nil), identity.Pinned(own.Print(), clock), "didn't provide a certificate", "certificate required"},
		{"no certificate, asked", server.Asking(), identity.Pinned(own.Print(), clock), "", ""},
		{"another cluster's token", server.Asking(), identity.Pinned(other.Print(), clock), "tls", "another cluster, or somebody in between"},
		{"a host as controller", fake.Asking(), client.Client(), "tls", "want controller"},
		{"a host as controller, by token", fake.Asking(), identity.Pinned(own.Print(), clock), "tls", "want controller"},
		{"TLS 1.2", server.Asking(), &tls.Config{MaxVersion: tls.VersionTLS12, InsecureSkipVerify: true}, "version", "version"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, serverErr, clientErr := shake(t, c.server, c.client)
			check(t, "server", serverErr, c.serverSays)
			check(t, "client", clientErr, c.clientSays)
		})
	}
}

func withoutVerification(c *identity.Credential) *tls.Config {
	cfg := c.Client()
	cfg.VerifyConnection = nil
	return cfg
}

func check(t *testing.T, end string, err error, says string) {
	t.Helper()
	if says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
		t.Errorf("%s: %v, want %q", end, err, says)
	}
}

// A credential that is replaced shows itself in the next handshake, on both
// sides and through settings that were made before.
func TestReplace(t *testing.T) {
	old, young := authority(t), authority(t)
	controller := identity.Who{Role: identity.Controller, Name: "c"}
	server, client := credential(t, old, controller), credential(t, old, host())
	serverTLS, clientTLS := server.Demanding(nil), client.Client()
	if _, err, _ := shake(t, serverTLS, clientTLS); err != nil {
		t.Fatal(err)
	}
	server.Replace(issue(t, young, controller, now, time.Hour), young.Roots())
	if _, _, err := shake(t, serverTLS, clientTLS); identity.FaultOf(err) != identity.WrongCA {
		t.Fatalf("an unknown CA: %v", err)
	}
	p := issue(t, young, host(), now, time.Hour)
	client.Replace(p, young.Roots())
	seen, err, clientErr := shake(t, serverTLS, clientTLS)
	if err != nil || clientErr != nil {
		t.Fatal(err, clientErr)
	}
	if !seen.PeerCertificates[0].Equal(p.Leaf()) || len(seen.VerifiedChains) == 0 {
		t.Error("the server saw another certificate, or did not verify it")
	}
}

func TestDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "host.pem")
	data, err := identity.EncodePair(issue(t, authority(t), host(), now, time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if err := identity.Write(path, data); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	got, err := identity.ReadKey(path)
	if err != nil {
		t.Fatal(err)
	}
	p, err := identity.ParsePair(got)
	if err != nil {
		t.Fatal(err)
	}
	if who, err := p.Who(); err != nil || who != host() {
		t.Errorf("%v, %v", who, err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := identity.ReadKey(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that the group may read: %v", err)
	}
	if err := os.WriteFile(path, make([]byte, identity.MaxPEM+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := identity.ReadKey(path); err == nil {
		t.Error("a large file is read")
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
