package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// More codes of the specification.
const (
	wrongVersion = 1
	ioFailure    = 5
	limited      = 51
)

// TestCodes: the codes of the specification that a configuration and an environment alone
// do not bring about.
func TestCodes(t *testing.T) {
	t.Parallel()
	n := one(t)
	web := call{command: "ADD", id: "web", netns: n.netns(t, "web"), conf: conf()}

	t.Run("1: a version that nobody speaks", func(t *testing.T) {
		for _, version := range []string{"0.1.0", "2.0.0", "x"} {
			c := web
			c.conf = strings.Replace(conf(), "1.1.0", version, 1)
			n.refused(t, c, wrongVersion, version)
		}
	})
	t.Run("5: stdin cannot be read", func(t *testing.T) {
		for _, verb := range []string{"ADD", "DEL", "CHECK", "GC", "STATUS"} {
			r := n.Do(t, n.host, "sh", "-c", fmt.Sprintf("CNI_COMMAND=%s CNI_CONTAINERID=web CNI_NETNS=%s CNI_IFNAME=eth0 CNI_PATH=%s ovl-cni </run", verb, web.netns, n.path))
			var e types.Error
			if err := json.Unmarshal([]byte(r.Stdout), &e); err != nil || r.Code == 0 {
				t.Errorf("%s of a directory: %+v", verb, r)
				continue
			}
			if e.Code != ioFailure || !strings.Contains(e.Error(), "is a directory") || strings.Contains(strings.TrimSpace(e.Error()), "\n") {
				t.Errorf("%s of a directory: error %d: %v; want %d", verb, e.Code, &e, ioFailure)
			}
		}
	})
	t.Run("5: nobody takes what is printed", func(t *testing.T) {
		r := n.Do(t, n.host, "sh", "-c", fmt.Sprintf("echo '%s' | CNI_COMMAND=ADD CNI_CONTAINERID=web CNI_NETNS=%s CNI_IFNAME=eth0 CNI_PATH=%s ovl-cni >/dev/full", conf(), web.netns, n.path))
		if r.Code == 0 {
			t.Error("an ADD whose result was lost has succeeded")
		}
		c := web
		c.command = "DEL" // as the runtime does after an error
		n.done(t, c)
	})
	t.Run("51: the host has lost its place in the underlay", func(t *testing.T) {
		status := call{command: "STATUS", conf: conf()}
		n.ready(t)
		route := n.run(t, "ip", "route", "show", "default") // goes with the link, and does not come back with it
		n.run(t, "ip", "link", "set", "eth0", "down")
		labtest.Until(t, "STATUS says so", func() error {
			var e types.Error
			a := n.ask(t, status)
			if err := json.Unmarshal([]byte(a.stdout), &e); err != nil || e.Code != limited {
				return errors.New(a.stdout)
			}
			return nil
		})
		n.run(t, "sh", "-c", "ip link set eth0 up && ip route add "+route)
		n.ready(t)
	})
	n.nothingLeft(t)
}
