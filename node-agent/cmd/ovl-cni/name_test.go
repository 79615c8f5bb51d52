package main

import (
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/ovlnet/ovl/internal/cluster"
)

func TestAttachmentID(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 16)
	seen := map[string]bool{}
	for _, c := range [][2]string{{"a-b", "c"}, {"a", "b-c"}, {long, "eth0"}, {long + "x", "eth0"}, {long, "eth1"}, {"a", "eth@0"}, {"a", "eth_0"}} {
		id := attachmentID(c[0], c[1])
		if len(id) > maxID || only(id) != id || seen[id] {
			t.Errorf("%v: %q (%d bytes)", c, id, len(id))
		}
		seen[id] = true
	}
	if id := attachmentID("0123abcd", "eth0"); !strings.HasPrefix(id, "0123abcd-eth0-") {
		t.Errorf("%q does not begin readably", id)
	}
}

func FuzzDNSLabel(f *testing.F) {
	for _, s := range []string{"web", "Web_0", "", "-", "日本", strings.Repeat("a", 100)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if err := cluster.CheckName(dnsLabel(s)); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	})
}

// FuzzParse: whatever a runtime gives, what is taken asks for nothing that is
// not well-formed, and what is not taken is refused with one of the
// specification's codes.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"cniVersion":"1.1.0","name":"blue","type":"ovl","runtimeConfig":{"ips":["10.64.3.9/24"]}}`), "IgnoreUnknown=1;K8S_POD_NAME=web")
	f.Add([]byte(`{"cniVersion":"1.0.0","name":"blue","prevResult":{"cniVersion":"1.0.0","ips":[{"address":"10.64.3.2/24"}]},"cni.dev/valid-attachments":null}`), "IP=10.0.0.1,::1;MAC=x")
	f.Add([]byte(`{"cniVersion":"1.1.0","name":"blue","ipMasq":true,"mtu":1400,"args":{"cni":{"labels":[{"key":"a","value":"b"}]}},"runtimeConfig":{
		"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"TCP"}],"bandwidth":{"ingressRate":1000000,"ingressBurst":8000},"dns":{"servers":["::1"]}}}`), "")
	f.Fuzz(func(t *testing.T, raw []byte, args string) {
		r, err := parseWhole(&skel.CmdArgs{ContainerID: "a", IfName: "eth0", StdinData: raw, Args: args})
		if err != nil {
			if e, ok := err.(*types.Error); !ok || e.Code == 0 { //nolint:errorlint // the library looks at the type itself as well
				t.Errorf("refused with %v, which has no code", err)
			}
			return
		}
		if err := cluster.CheckName(r.Network); err != nil {
			t.Error(err)
		}
		if err := cluster.CheckName(r.containerName()); err != nil {
			t.Error(err)
		}
		for k, v := range r.labels() {
			if len(k) > cluster.MaxLabelLen || len(v) > cluster.MaxLabelLen {
				t.Errorf("label %q=%q", k, v)
			}
		}
		if n := len(r.labels()); n > cluster.MaxLabels {
			t.Errorf("%d labels", n)
		}
		_, _ = r.addresses() // must not panic
		_, _, _ = r.ports(), r.bandwidth(), r.names()
		_, _ = r.valid()
	})
}
