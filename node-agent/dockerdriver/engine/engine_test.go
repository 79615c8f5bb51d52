package engine

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// serve returns a client of an engine that answers so.
func serve(t *testing.T, answer http.HandlerFunc) *Client {
	t.Helper()
	s := httptest.NewUnstartedServer(answer)
	path := filepath.Join(t.TempDir(), "s")
	l, err := listenUnix(t, path)
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Listener.Close()
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	return New(path)
}

func TestHello(t *testing.T) {
	for version, want := range map[string]string{
		"1.41": "/v1.41/networks", "1.52": "/v1.52/networks", "1.99": "/v1.52/networks",
		"1.40": "upgrade to engine 20.10", "": "no version of Docker's API", "2.0": "no version of Docker's API", "1.-4": "no version",
	} {
		path := ""
		c := serve(t, func(w http.ResponseWriter, r *http.Request) {
			path = r.URL.Path
			w.Header().Set("Api-Version", version)
			_, _ = w.Write([]byte("[]"))
		})
		err := c.Hello(t.Context())
		if err == nil {
			_, err = c.Networks(t.Context())
		}
		if err != nil {
			path = err.Error()
		}
		if !strings.Contains(path, want) {
			t.Errorf("%q: %s, want %s", version, path, want)
		}
	}
	_, err := New(filepath.Join(t.TempDir(), "none")).Networks(t.Context())
	if !errors.Is(err, os.ErrNotExist) || strings.Contains(err.Error(), "http://") {
		t.Errorf("nobody there: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		body   string
		is     error
		says   string
	}{
		"in use":   {403, `{"message":"error while removing network: network blue id 0123 has active endpoints"}`, ErrInUse, "active endpoints"},
		"other":    {403, `{"message":"bridge is a pre-defined\nnetwork and cannot be removed"}`, nil, "pre-defined network and cannot"},
		"no JSON":  {500, `<html>`, nil, "500"},
		"gone":     {404, `{"message":"network 1 not found"}`, ErrNotFound, ""},
		"too long": {500, `{"message":"` + strings.Repeat("x", 5000) + `"}`, nil, "500"},
	} {
		client := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(c.status)
			_, _ = w.Write([]byte(c.body))
		})
		err := client.RemoveNetwork(t.Context(), "0123456789abcdef")
		if errors.Is(c.is, ErrNotFound) {
			if err != nil {
				t.Errorf("%s: %v, want success", name, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The names of a container, as engines of both kinds tell them.
func TestContainer(t *testing.T) {
	for name, body := range map[string]string{
		"20.10": `{"Id":"0123456789abcdef","Name":"/Web","Config":{"Hostname":"0123456789ab"},"NetworkSettings":{"Networks":{"blue":{"NetworkID":"n","EndpointID":"e","Aliases":["WWW","0123456789ab"],"IPAddress":"10.70.1.2","GlobalIPv6Address":""}}}}`,
		"29":    `{"Id":"0123456789abcdef","Name":"/Web","Config":{"Hostname":"0123456789ab"},"NetworkSettings":{"Networks":{"blue":{"NetworkID":"n","EndpointID":"e","Aliases":["WWW"],"DNSNames":["Web","WWW","0123456789ab"],"IPAddress":"10.70.1.2"}}}}`,
	} {
		c, err := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) }).Container(t.Context(), "x/../y")
		if err != nil || len(c.On) != 1 {
			t.Fatalf("%s: %+v, %v", name, c, err)
		}
		if on := c.On[0]; c.Name != "web" || on.EndpointID != "e" || !slices.Equal(on.Aliases, []string{"0123456789ab", "www"}) || !slices.Equal(on.Addrs, []netip.Addr{netip.MustParseAddr("10.70.1.2")}) {
			t.Errorf("%s: %+v", name, c)
		}
	}
}

// A container that has not begun yet has no more of a process than one that has ended.
func TestContainersProcess(t *testing.T) {
	for state, want := range map[string]Container{
		`{"Status":"running","Pid":4711}`: {Pid: 4711},
		`{"Status":"paused","Pid":4711}`:  {Pid: 4711},
		`{"Status":"exited","Pid":0}`:     {Ended: true},
		`{"Status":"dead"}`:               {Ended: true},
		`{"Status":"created"}`:            {},
		`{"Status":"restarting"}`:         {},
		`{}`:                              {},
	} {
		var m containerMessage
		if err := json.Unmarshal([]byte(`{"Id":"c1","State":`+state+`}`), &m); err != nil {
			t.Fatal(err)
		}
		if c := m.container(); c.Pid != want.Pid || c.Ended != want.Ended {
			t.Errorf("%s: %+v", state, c)
		}
	}
}

func TestBridge(t *testing.T) {
	for want, n := range map[string]Network{
		"docker0":         {ID: "0123456789abcdef", Driver: "bridge", Options: map[string]string{"com.docker.network.bridge.name": "docker0"}},
		"br-0123456789ab": {ID: "0123456789abcdef", Driver: "bridge"},
		"":                {ID: "0123456789abcdef", Driver: "ovl"},
	} {
		if got, _ := n.Bridge(); got != want {
			t.Errorf("%+v: %s, want %s", n, got, want)
		}
	}
}

// Whatever an engine answers is decoded, or refused.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte(`{"Id":"1","Name":"/web","NetworkSettings":{"Networks":{"b":{"EndpointID":"e","Aliases":[null],"IPAddress":"::1%x"}}}}`))
	f.Add([]byte(`{"Type":"network","Action":"create","Actor":{"ID":"1","Attributes":{"name":"blue"}}}`))
	f.Add([]byte(`{"Id":"1","IPAM":{"Config":[{"Subnet":"10.0.0.1/8"}]}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if c, err := decode[containerMessage](raw); err == nil {
			for _, on := range c.container().On {
				if slices.Contains(on.Aliases, c.container().Name) || slices.Contains(on.Aliases, "") {
					t.Errorf("aliases %q of %q", on.Aliases, c.Name)
				}
			}
		}
		if n, err := decode[networkMessage](raw); err == nil {
			for _, p := range n.network().Subnets {
				if p != p.Masked() {
					t.Errorf("subnet %s", p)
				}
			}
			n.network().Bridge()
		}
		if e, err := decodeEvent(raw); err != nil && e != (Event{}) {
			t.Errorf("%+v and %v", e, err)
		}
	})
}
