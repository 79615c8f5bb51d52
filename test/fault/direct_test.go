package fault

import (
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// TestDirectRoutesComeBack: routes of ours on a link that is somebody else's, whose
// owner does with it as he likes.
func TestDirectRoutesComeBack(t *testing.T) {
	t.Parallel()
	l := labtest.Up(t, lab.Config{Hosts: 2})
	l.Run(t, "h1", "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16", "--subnet", "fd64::/48", "--direct-routing")
	a, b := l.Sandbox(t, "h1", "a", "--network", "blue"), l.Sandbox(t, "h2", "b", "--network", "blue")
	reaches(t, a, b)
	reaches(t, b, a)
	route := l.Run(t, "h1", "sh", "-c", "ip -4 route show proto 79 dev eth0")
	replace := strings.NewReplacer("{peer}", find(t, route, `^(\S+) via 192.168.77.2 `))
	for _, br := range []breakage{
		{"route deleted", "ip route del {peer}"},
		{"route elsewhere", "ip route replace {peer} via 192.168.77.254 proto 79"},
		{"route unreachable", "ip route replace unreachable {peer} proto 79"},
		{"routes of the link flushed", "ip route flush dev eth0 proto 79"},
		{"the rest of the range open", "ip route del unreachable 10.64.0.0/16"},
		{"the rest of the range elsewhere", "ip route replace 10.64.0.0/16 via 192.168.77.254 proto 79"},
		{"underlay down for a moment", "ip link set eth0 down; ip link set eth0 up && ip route add default via 192.168.77.254"},
		{"raw flushed", "iptables -t raw -F"},
	} {
		t.Run(br.name, func(t *testing.T) {
			repair(t, l, "h1", replace.Replace(br.command))
			reaches(t, a, b)
			reaches(t, b, a)
		})
	}
}
