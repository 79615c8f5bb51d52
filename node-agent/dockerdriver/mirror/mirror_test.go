package mirror_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/node-agent/attach"
	"github.com/ovlnet/ovl/node-agent/dockerdriver/engine"
	"github.com/ovlnet/ovl/node-agent/dockerdriver/mirror"
)

// world is an engine at a socket, a cluster, and the mirror between them. Whatever
// changes is told on a channel.
type world struct {
	t      *testing.T
	socket string

	mu         sync.Mutex
	server     *http.Server
	docker     map[string]map[string]any // networks, as the API has them
	made       int
	containers map[string]string // to what inspect answers
	listeners  []chan string
	cluster    map[string]cluster.Network
	refused    error // what the controller says to a deletion
	bound      map[string]string
	described  map[string]string
	processes  map[string]int
	reclaimed  []string
	mirror     *mirror.Mirror
	news       chan struct{}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{
		t: t, socket: filepath.Join(t.TempDir(), "d.sock"), docker: map[string]map[string]any{}, containers: map[string]string{},
		cluster: map[string]cluster.Network{}, bound: map[string]string{}, described: map[string]string{}, processes: map[string]int{}, news: make(chan struct{}, 1),
	}
	w.mirror = mirror.New(mirror.Config{
		Engine: engine.New(w.socket), Cluster: w, Book: w, Log: slog.New(slog.DiscardHandler),
		Networks: w.networks, Refresh: func(context.Context) error { return nil },
		Has:  func(endpoint string) bool { return endpoint == "e1" || endpoint == "e2" },
		Runs: func(endpoint string, pid int) { w.change(func() { w.processes[endpoint] = pid }) },
		Describe: func(_ context.Context, endpoint string, is attach.Description) error {
			w.change(func() { w.described[endpoint] = is.Name + " " + strings.Join(is.Aliases, ",") })
			return nil
		},
		Reclaim: func(_ context.Context, known map[string]bool, _ time.Time) error {
			w.change(func() { w.reclaimed = slices.Sorted(maps.Keys(known)) })
			return nil
		},
		Bridges: func([]string) {}, Changed: w.tell,
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = w.mirror.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done; w.stop() })
	return w
}

func (w *world) tell() {
	select {
	case w.news <- struct{}{}:
	default:
	}
}

func (w *world) change(f func()) {
	w.mu.Lock()
	f()
	w.mu.Unlock()
	w.tell()
}

// until waits for what a test expects.
func (w *world) until(what string, is func() bool) {
	w.t.Helper()
	for limit := time.After(20 * time.Second); ; {
		w.mu.Lock()
		ok := is()
		w.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-w.news:
		case <-limit:
			w.t.Fatalf("%s: not so: docker %v, cluster %v, bound %v, described %v, problems %v", what, w.docker, w.cluster, w.bound, w.described, w.mirror.Problems())
		}
	}
}

// start starts the engine.
func (w *world) start() {
	w.t.Helper()
	l, err := new(net.ListenConfig).Listen(w.t.Context(), "unix", w.socket)
	if err != nil {
		w.t.Fatal(err)
	}
	w.server = &http.Server{Handler: w, ReadHeaderTimeout: time.Second}
	go func() { _ = w.server.Serve(l) }()
}

func (w *world) stop() {
	w.mu.Lock()
	for _, l := range w.listeners {
		close(l)
	}
	w.listeners = nil
	w.mu.Unlock()
	if w.server != nil {
		_ = w.server.Close()
	}
}

// event tells those who listen; the lock is held.
func (w *world) event(kind, action, id string, attributes map[string]string) {
	raw, err := json.Marshal(map[string]any{"Type": kind, "Action": action, "Actor": map[string]any{"ID": id, "Attributes": attributes}})
	if err != nil {
		w.t.Error(err)
	}
	for _, l := range w.listeners {
		l <- string(raw)
	}
}

// ServeHTTP is the engine's API.
func (w *world) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/v1.41")
	switch {
	case r.URL.Path == "/_ping":
		out.Header().Set("Api-Version", "1.41")
	case path == "/events":
		w.listen(out, r)
	case path == "/networks" && r.Method == http.MethodGet:
		w.mu.Lock()
		defer w.mu.Unlock()
		_ = json.NewEncoder(out).Encode(slices.Collect(maps.Values(w.docker)))
	case path == "/networks/create":
		w.create(out, r)
	case strings.HasPrefix(path, "/networks/"):
		w.change(func() { w.remove(out, strings.TrimPrefix(path, "/networks/")) })
	case path == "/containers/json":
		if r.URL.Query().Get("all") != "1" {
			w.t.Error("containers that are being started are not asked for")
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		var all []map[string]string
		for id := range w.containers {
			all = append(all, map[string]string{"Id": id})
		}
		_ = json.NewEncoder(out).Encode(all)
	case strings.HasPrefix(path, "/containers/"):
		w.mu.Lock()
		defer w.mu.Unlock()
		answer, ok := w.containers[strings.TrimSuffix(strings.TrimPrefix(path, "/containers/"), "/json")]
		if !ok {
			out.WriteHeader(http.StatusNotFound)
		}
		_, _ = io.WriteString(out, answer)
	default:
		w.t.Errorf("%s %s", r.Method, r.URL)
	}
}

func (w *world) listen(out http.ResponseWriter, r *http.Request) {
	events := make(chan string, 100)
	w.mu.Lock()
	w.listeners = append(w.listeners, events)
	w.mu.Unlock()
	out.WriteHeader(http.StatusOK)
	out.(http.Flusher).Flush()
	for {
		select {
		case e, ok := <-events:
			if !ok {
				return
			}
			_, _ = io.WriteString(out, e+"\n")
			out.(http.Flusher).Flush()
		case <-r.Context().Done():
			return
		}
	}
}

func (w *world) create(out http.ResponseWriter, r *http.Request) {
	var n map[string]any
	if err := json.NewDecoder(r.Body).Decode(&n); err != nil {
		w.t.Error(err)
	}
	w.change(func() { _ = json.NewEncoder(out).Encode(map[string]string{"Id": w.add(n)}) })
}

// add adds a network to the engine; the lock is held.
func (w *world) add(n map[string]any) string {
	w.made++
	id := fmt.Sprintf("n%d", w.made)
	n["Id"] = id
	w.docker[id] = n
	w.event("network", "create", id, map[string]string{"name": fmt.Sprint(n["Name"])})
	return id
}

func (w *world) remove(out http.ResponseWriter, id string) {
	n, ok := w.docker[id]
	switch {
	case !ok:
		out.WriteHeader(http.StatusNotFound)
	case n["busy"] != nil:
		out.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(out, `{"message":"error while removing network: network x has active endpoints"}`)
	default:
		delete(w.docker, id)
		w.event("network", "destroy", id, nil)
	}
}

func (w *world) networks() ([]cluster.Network, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.SortedFunc(maps.Values(w.cluster), func(a, b cluster.Network) int { return strings.Compare(a.Name, b.Name) }), true
}

// CreateNetwork implements [mirror.Cluster].
func (w *world) CreateNetwork(_ context.Context, name string, subnets []string, internal bool) error {
	w.change(func() {
		n := cluster.Network{Name: name, Driver: cluster.DriverOverlay, Internal: internal, Labels: map[string]string{cluster.LabelDockerHost: "me"}}
		for _, s := range subnets {
			n.Pools = append(n.Pools, cluster.Pool{Prefix: netip.MustParsePrefix(s), HostPrefix: 24})
		}
		w.cluster[name] = n
	})
	return nil
}

// DeleteNetwork implements [mirror.Cluster].
func (w *world) DeleteNetwork(_ context.Context, name string) error {
	if w.refused == nil {
		w.change(func() { delete(w.cluster, name) })
	}
	return w.refused
}

// Bound implements [mirror.Book].
func (w *world) Bound() map[string]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.bound)
}

// Bind implements [mirror.Book].
func (w *world) Bind(id, network string) error {
	w.change(func() { w.bound[id] = network })
	return nil
}

// Forget implements [mirror.Book].
func (w *world) Forget(known map[string]bool, _ time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	maps.DeleteFunc(w.bound, func(id, _ string) bool { return !known[id] })
	return nil
}

// want makes a network of the cluster, as ovlctl does.
func (w *world) want(name, subnet string) {
	w.change(func() { w.cluster[name] = wants(name, subnet) })
	w.mirror.Wake()
}

func (w *world) has(name string) (id string, ok bool) {
	for id, n := range w.docker {
		if n["Name"] == name {
			return id, true
		}
	}
	return "", false
}

func userNetwork(name, subnet string) map[string]any {
	return map[string]any{"Name": name, "Driver": "ovl", "IPAM": map[string]any{"Driver": "ovl", "Config": []map[string]string{{"Subnet": subnet}}}}
}

// What the cluster has when the engine comes, what it gets, and loses.
func TestFromTheCluster(t *testing.T) {
	w := newWorld(t)
	w.want("blue", ten)
	w.start()
	w.until("blue is made", func() bool { _, ok := w.has("blue"); return ok })
	w.want("red", eleven)
	w.until("red is made", func() bool { _, ok := w.has("red"); return ok })
	w.change(func() { delete(w.cluster, "red") })
	w.mirror.Wake()
	w.until("red is gone", func() bool { _, ok := w.has("red"); return !ok })
	// Somebody removes what is the cluster's: it comes back, and is not deleted there.
	w.change(func() {
		id, _ := w.has("blue")
		w.remove(nil, id)
	})
	w.until("blue is back", func() bool { _, ok := w.has("blue"); return ok && len(w.cluster) == 1 })
	if w.made != 3 {
		t.Errorf("%d networks made, want 3: no loops", w.made)
	}
}

// What people make on the engine becomes the cluster's, and so does its end.
func TestFromTheEngine(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.until("the mirror listens", func() bool { return len(w.listeners) == 1 })
	var id string
	w.change(func() { id = w.add(userNetwork("My_Net", ten)) })
	w.until("my-net is the cluster's", func() bool { return w.cluster["my-net"].Name != "" && w.bound[id] == "my-net" })
	w.change(func() { w.remove(nil, id) })
	w.until("it is gone from there", func() bool { return len(w.cluster) == 0 && len(w.docker) == 0 })
	if w.made != 1 {
		t.Errorf("%d networks made, want 1", w.made)
	}
}

// Of a network that was removed while nobody listened it is not known who wanted that: it
// comes back.
func TestRemovedUnheard(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.until("the mirror listens", func() bool { return len(w.listeners) == 1 })
	var id string
	w.change(func() { id = w.add(userNetwork("blue", ten)) })
	w.until("blue is the cluster's", func() bool { return w.bound[id] == "blue" })
	w.stop()
	w.change(func() { delete(w.docker, id) })
	w.start()
	w.until("it is back, and the old one forgotten", func() bool {
		_, ok := w.has("blue")
		return ok && len(w.cluster) == 1 && len(w.bound) == 0
	})
}

// A network that others still use is not deleted, and comes back.
func TestRemovedInUse(t *testing.T) {
	w := newWorld(t)
	w.refused = errors.New("delete network blue: it is in use by web on h1")
	w.start()
	w.until("the mirror listens", func() bool { return len(w.listeners) == 1 })
	var id string
	w.change(func() { id = w.add(userNetwork("blue", ten)) })
	w.until("blue is the cluster's", func() bool { return w.bound[id] == "blue" })
	w.change(func() { w.remove(nil, id) })
	w.until("it is back", func() bool { _, ok := w.has("blue"); return ok && len(w.cluster) == 1 })
	if p := w.mirror.Problems(); len(p) != 1 || !strings.Contains(p[0].What, "in use by web on h1") {
		t.Errorf("problems %v", p)
	}
}

// Containers on a network that was deleted keep it on the engine, until they go.
func TestDeletedInUse(t *testing.T) {
	w := newWorld(t)
	w.want("blue", ten)
	w.start()
	w.until("blue is made", func() bool { _, ok := w.has("blue"); return ok })
	w.change(func() {
		id, _ := w.has("blue")
		w.docker[id]["busy"] = true
		delete(w.cluster, "blue")
	})
	w.mirror.Wake()
	w.until("that is told", func() bool { return len(w.mirror.Problems()) == 1 })
	w.change(func() {
		id, _ := w.has("blue")
		delete(w.docker[id], "busy")
		w.event("network", "disconnect", id, map[string]string{"container": "c1"})
	})
	w.until("it goes with its last container", func() bool { _, ok := w.has("blue"); return !ok && len(w.mirror.Problems()) == 0 })
}

// An engine that was away is looked at anew, and so are all its containers.
func TestEngineComesBack(t *testing.T) {
	w := newWorld(t)
	w.want("blue", ten)
	w.containers["c1"] = `{"Id":"c1","Name":"/web","State":{"Status":"running","Pid":7},"NetworkSettings":{"Networks":{"blue":{"NetworkID":"n1","EndpointID":"e1","Aliases":["www"]}}}}`
	w.start()
	w.until("web is described", func() bool {
		return w.described["e1"] == "web c1,www" && w.processes["e1"] == 7 && slices.Equal(w.reclaimed, []string{"e1"})
	})
	w.stop()
	w.change(func() {
		w.cluster["red"] = wants("red", eleven)
		w.containers["c1"] = strings.NewReplacer("/web", "/front", `"running","Pid":7`, `"exited","Pid":0`).Replace(w.containers["c1"])
	})
	w.start()
	w.until("all is as it should be", func() bool {
		_, ok := w.has("red")
		return ok && w.described["e1"] == "front c1,www" && w.processes["e1"] == 0
	})
	w.change(func() {
		w.containers["c2"] = `{"Id":"c2","Name":"/db","NetworkSettings":{"Networks":{"blue":{"NetworkID":"n1","EndpointID":"e2"}}}}`
		w.event("network", "connect", "n1", map[string]string{"container": "c2"})
	})
	w.until("one more", func() bool { return w.described["e2"] == "db c2" })
}
