package etcd

import "testing"

func TestReason(t *testing.T) {
	for text, want := range map[string]string{
		`connection error: desc = "transport: Error while dialing: dial tcp 192.0.2.1:1: connect: connection refused"`:                        "dial tcp 192.0.2.1:1: connect: connection refused",
		`connection error: desc = "error reading server preface: remote error: tls: expired certificate"`:                                     "the server refuses our certificate: expired certificate",
		`connection error: desc = "transport: authentication handshake failed: certificate of controller c is of another cluster's CA, not…"`: "we refuse the server: certificate of controller c is of another cluster's CA, not…",
		"etcdserver: mvcc: required revision has been compacted":                                                                              "",
	} {
		if got := reason(text); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}
