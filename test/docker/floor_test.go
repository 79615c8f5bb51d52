//go:build docker

package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// floorEnv makes this test binary a network driver that does as good as nothing: what an
// engine takes longer with it than without a network is what it takes with any driver
// that is not built into it. It names the plugin, and so its socket.
const floorEnv = "OVL_TEST_FLOOR"

// The floors that there are.
const (
	// floorEmpty answers every call at once, and has no interface.
	floorEmpty = "empty"
	// floorVeth gives an interface out of a stock of veths, and a gateway. Nothing is done
	// for it while the engine waits.
	floorVeth = "veth"
)

// floorStock is how many containers can be on the network of floorVeth.
const floorStock = 8

// startFloor runs the driver on an engine's host, and makes a network of its kind.
func (e *engine) startFloor(tb testing.TB, name string) {
	tb.Helper()
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	e.StartDaemon(tb, e.host, "floor-"+name, "env", floorEnv+"="+name, self)
	labtest.Until(tb, "the driver "+name+" listens", func() error {
		if r := e.Do(tb, e.host, "test", "-S", floorSocket(name)); r.Code != 0 {
			return errors.New("not yet")
		}
		return nil
	})
	e.docker(tb, "network", "create", "-d", name, "--ipam-driver", name, "--subnet", floorPool(name).String(), "floor-"+name)
}

func floorSocket(name string) string { return "/run/docker/plugins/" + name + ".sock" }

func floorPool(name string) netip.Prefix {
	if name == floorEmpty {
		return netip.MustParsePrefix("10.90.0.0/24")
	}
	return netip.MustParsePrefix("10.91.0.0/24")
}

// floor is a network driver and its IPAM driver.
type floor struct {
	pool netip.Prefix

	mu    sync.Mutex
	last  netip.Addr
	stock []string          // links that wait, by name
	given map[string]string // to endpoints, by ID
}

// serveFloor is the program of the driver.
func serveFloor(name string) error {
	pool := floorPool(name)
	f := &floor{pool: pool, last: pool.Addr().Next(), given: map[string]string{}}
	if name == floorVeth {
		for n := range floorStock {
			link := fmt.Sprintf("floor%d", n)
			if out, err := exec.Command("ip", "link", "add", "up", "floorh"+link[5:], "type", "veth", "peer", link).CombinedOutput(); err != nil {
				return fmt.Errorf("make a veth: %w: %s", err, out)
			}
			f.stock = append(f.stock, link)
		}
	}
	socket := floorSocket(name)
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		return err
	}
	l, err := new(net.ListenConfig).Listen(context.Background(), "unix", socket)
	if err != nil {
		return err
	}
	return http.Serve(l, f)
}

// asked is what is read of any call.
type asked struct {
	EndpointID, Pool, Address string
	Options                   map[string]any
}

// ServeHTTP implements [http.Handler].
func (f *floor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var m asked
	if err := json.NewDecoder(r.Body).Decode(&m); err != nil && !errors.Is(err, io.EOF) {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	_ = json.NewEncoder(w).Encode(f.answer(strings.TrimPrefix(r.URL.Path, "/"), m)) // to an engine that waits
}

// object is an answer: see the messages of node-agent/dockerdriver.
type object map[string]any

func (f *floor) answer(call string, m asked) object {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch call {
	case "Plugin.Activate":
		return object{"Implements": []string{"NetworkDriver", "IpamDriver"}}
	case "NetworkDriver.GetCapabilities":
		return object{"Scope": "local", "ConnectivityScope": "local"}
	case "IpamDriver.GetDefaultAddressSpaces":
		return object{"LocalDefaultAddressSpace": "floor", "GlobalDefaultAddressSpace": "floor"}
	case "IpamDriver.RequestPool":
		return object{"PoolID": m.Pool, "Pool": m.Pool}
	case "IpamDriver.RequestAddress":
		return object{"Address": f.address(m).String()}
	case "NetworkDriver.CreateEndpoint":
		return object{"Interface": object{}}
	case "NetworkDriver.Join":
		if len(f.stock) == 0 {
			return object{"DisableGatewayService": true}
		}
		link := f.stock[0]
		f.stock, f.given[m.EndpointID] = f.stock[1:], link
		return object{"InterfaceName": object{"SrcName": link, "DstPrefix": "eth"}, "Gateway": f.pool.Addr().Next().String()}
	case "NetworkDriver.DeleteEndpoint":
		if link, ok := f.given[m.EndpointID]; ok {
			delete(f.given, m.EndpointID)
			f.stock = append(f.stock, link)
		}
	case "NetworkDriver.EndpointOperInfo":
		return object{"Value": object{}}
	}
	return object{}
}

// address returns the next address, or that of the gateway.
func (f *floor) address(m asked) netip.Prefix {
	a := f.pool.Addr().Next()
	if m.Options["RequestAddressType"] != "com.docker.network.gateway" {
		if f.last = f.last.Next(); !f.pool.Contains(f.last.Next()) {
			f.last = a.Next()
		}
		a = f.last
	}
	return netip.PrefixFrom(a, f.pool.Bits())
}
