package bench

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/vishvananda/netns"
)

// parallel is how many containers BenchmarkCNI adds at once.
const parallel = 50

// BenchmarkCNI adds containers as a runtime does, by libcni and processes: with ovl-cni,
// and in turns with it with the reference plugins bridge, host-local and portmap. Plain
// is an address and a way to the gateway, and portmap has nothing to do. Masqueraded is
// what runtimes have in their configurations. Published is a port on the host besides. Reported, in milliseconds: of
// one by one the median; of fifty at once the median of all, and over the rounds that of
// the last.
func BenchmarkCNI(b *testing.B) {
	for _, c := range []struct {
		name string
		conf string
		port bool
	}{
		{"plain", `"isGateway":true`, false},
		{"masqueraded", `"isGateway":true,"ipMasq":true`, false},
		{"published", `"isGateway":true,"ipMasq":true`, true},
	} {
		b.Run(c.name, func(b *testing.B) {
			r := newRuntimes(b, c.conf, c.port)
			defer r.close(b)
			var one, many, last [2][]float64
			for b.Loop() {
				for side := range 2 {
					r.turn(b, side)
					for i := range 10 {
						took, _ := r.addAll(b, side, i, i+1)
						one[side] = append(one[side], took)
						r.delAll(b, side, i, i+1)
					}
					took, all := r.addAll(b, side, 0, parallel)
					many[side], last[side] = append(many[side], all...), append(last[side], took)
					r.delAll(b, side, 0, parallel)
				}
			}
			for side, name := range []string{"ovl", "reference"} {
				b.ReportMetric(median(one[side])*1e3, name+"-p50-ms")
				b.ReportMetric(median(many[side])*1e3, name+"-50-p50-ms")
				b.ReportMetric(median(last[side])*1e3, name+"-50-last-ms")
			}
			b.ReportMetric(median(one[1])/median(one[0]), "times")
			b.ReportMetric(median(many[1])/median(many[0]), "times-50-p50")
			b.ReportMetric(median(last[1])/median(last[0]), "times-50-last")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// runtimes are a runtime with ovl-cni, and one with the reference plugins.
type runtimes struct {
	world *world
	agent *agent
	cni   *libcni.CNIConfig
	lists [2]*libcni.NetworkConfigList
	port  bool
}

func newRuntimes(b *testing.B, bridge string, port bool) *runtimes {
	b.Helper()
	r := &runtimes{world: newWorld(b), port: port}
	b.Cleanup(func() {
		for side := range 2 {
			for i := range parallel + 1 {
				_ = netns.DeleteNamed(r.name(side, i)) // for the next, which makes its own
			}
		}
	})
	putNetwork(b, r.world.kv, peersNetwork())
	r.agent = r.world.startAgent(b)
	r.agent.attach(b, "c0") // an agent that answers
	path := b.TempDir()
	must(b, os.Symlink(filepath.Join(binDir, "ovl-cni"), filepath.Join(path, "ovl")))
	r.cni = libcni.NewCNIConfigWithCacheDir([]string{path, reference(b)}, b.TempDir(), nil)
	for side, text := range []string{
		`{"cniVersion":"1.0.0","name":"ours","plugins":[{"type":"ovl","network":"` + peersNetwork().Name + `","socket":` + quoted(b, r.agent.socket) + `,"capabilities":{"portMappings":true}}]}`,
		`{"cniVersion":"1.0.0","name":"theirs","plugins":[
			{"type":"bridge","bridge":"cni0",` + bridge + `,"ipam":{"type":"host-local","dataDir":` + quoted(b, b.TempDir()) + `,"subnet":"172.30.0.0/16","routes":[{"dst":"0.0.0.0/0"}]}},
			{"type":"portmap","capabilities":{"portMappings":true}}]}`,
	} {
		list, err := libcni.NetworkConfFromBytes([]byte(text))
		must(b, err)
		r.lists[side] = list
		for i := range parallel + 1 {
			makeNamespace(b, r.name(side, i))
		}
		must(b, r.add(side, parallel)) // whoever is first makes the bridge, and the chains that lead to ports
	}
	return r
}

// turn begins the turn of one side. In the reference's the agent stands still: it would
// read again what they write to iptables, and take their processors for that.
func (r *runtimes) turn(b *testing.B, side int) {
	b.Helper()
	if side == 1 {
		must(b, r.agent.cmd.Process.Signal(syscall.SIGSTOP))
		return
	}
	must(b, r.agent.cmd.Process.Signal(syscall.SIGCONT))
	must(b, r.add(0, 0)) // after which it has heard of everything
	must(b, r.del(0, 0))
}

func (r *runtimes) close(b *testing.B) {
	b.Helper()
	must(b, r.agent.cmd.Process.Signal(syscall.SIGCONT))
	r.agent.stop(b)
	r.world.close(b)
}

func (r *runtimes) name(side, i int) string {
	return []string{"ours", "theirs"}[side] + strconv.Itoa(i)
}

func (r *runtimes) runtime(side, i int) *libcni.RuntimeConf {
	rt := &libcni.RuntimeConf{ContainerID: r.name(side, i), NetNS: "/run/netns/" + r.name(side, i), IfName: "eth0"}
	if r.port {
		rt.CapabilityArgs = map[string]any{"portMappings": []map[string]any{{"hostPort": 20000 + 1000*side + i, "containerPort": 80, "protocol": "tcp"}}}
	}
	return rt
}

func (r *runtimes) add(side, i int) error {
	_, err := r.cni.AddNetworkList(context.Background(), r.lists[side], r.runtime(side, i))
	return err
}

func (r *runtimes) del(side, i int) error {
	return r.cni.DelNetworkList(context.Background(), r.lists[side], r.runtime(side, i))
}

// addAll adds so many containers at once; it returns, in seconds, when the last was done and
// when each.
func (r *runtimes) addAll(b *testing.B, side, from, to int) (last float64, each []float64) {
	b.Helper()
	each = make([]float64, to-from)
	began := time.Now()
	last = atOnce(b, from, to, func(i int) error {
		err := r.add(side, i)
		each[i-from] = time.Since(began).Seconds()
		return err
	})
	return last, each
}

func (r *runtimes) delAll(b *testing.B, side, from, to int) {
	b.Helper()
	atOnce(b, from, to, func(i int) error { return r.del(side, i) })
}

func quoted(b *testing.B, s string) string {
	b.Helper()
	raw, err := json.Marshal(s)
	must(b, err)
	return string(raw)
}

// reference returns the directory of the reference plugins: that in which `make bench`
// has put them, or one of their own.
func reference(b *testing.B) string {
	b.Helper()
	dir := filepath.Join(binDir, "reference")
	if _, err := os.Stat(filepath.Join(dir, "bridge")); err == nil {
		return dir
	}
	dir = b.TempDir()
	cmd := exec.Command("go", "build", "-C", "../cni/reference", "-o", dir+string(filepath.Separator), "tool")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("build the reference plugins: %v: %s", err, out)
	}
	return dir
}
