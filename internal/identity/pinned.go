package identity

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"time"
)

// Pinned returns the settings of a client that knows no more of a cluster than
// the print of its CA, from a token. The server must show that CA in its chain,
// and a controller's certificate below it; else the handshake ends before
// anything was said.
func Pinned(ca Print, now func() time.Time) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{"h2"},
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection verifies, against the pinned CA
		VerifyConnection: func(s tls.ConnectionState) error {
			return verifyPinned(s.PeerCertificates, ca, now())
		},
	}
}

func verifyPinned(chain []*x509.Certificate, ca Print, now time.Time) error {
	for _, c := range chain {
		if c.IsCA && PrintOf(c) == ca {
			_, err := Verify(chain, []*x509.Certificate{c}, now, Controller)
			return err
		}
	}
	return &RefusalError{Fault: WrongCA, Text: fmt.Sprintf("what answers there has not the CA of the token (fingerprint %s): it is another cluster, or somebody in between, or the cluster has changed its CA since the token was made: ask an admin for another (ovlctl token create)", ca)}
}
