//go:build runtimes

package runtimes

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
	"github.com/ovlnet/ovl/test/containerd"
)

// cri is the CRI of a host's containerd.
type cri struct {
	*labtest.Lab
	host string
}

// object is a message of the CRI, in JSON.
type object map[string]any

// try calls a method.
func (c cri) try(t *testing.T, method string, request object) labtest.Result {
	t.Helper()
	raw, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	return c.Do(t, c.host, os.Getenv(criEnv), containerd.Socket, method, string(raw))
}

// call calls a method, which must succeed, and decodes the answer.
func (c cri) call(t *testing.T, method string, request object, answer any) {
	t.Helper()
	r := c.try(t, method, request)
	if r.Code != 0 {
		t.Fatalf("%s on %s: %s", method, c.host, r.Stderr)
	}
	if answer == nil {
		return
	}
	if err := json.Unmarshal([]byte(r.Stdout), answer); err != nil {
		t.Fatalf("%s on %s: %v: %s", method, c.host, err, r.Stdout)
	}
}

// pod is a pod with one container.
type pod struct {
	cri
	id, container string
	addr          netip.Addr
}

// podConfig is what the kubelet would say of a pod; more is added to it.
func podConfig(name string, more object) object {
	config := object{
		"metadata": object{"name": name, "namespace": "shop", "uid": name}, "hostname": name, "log_directory": "/run/pods/" + name,
		"linux": object{"cgroup_parent": groupParent},
	}
	maps.Copy(config, more)
	return config
}

// nextAttempt makes config that of a pod's next sandbox, as the kubelet counts them.
func nextAttempt(config object) {
	metadata := maps.Clone(config["metadata"].(object))
	metadata["attempt"] = 1
	config["metadata"] = metadata
}

// pod starts a pod with a command.
func (c cri) pod(t *testing.T, config object, command ...string) pod {
	t.Helper()
	p := pod{cri: c}
	var sandbox struct{ PodSandboxID string }
	c.call(t, "RunPodSandbox", object{"config": config}, &sandbox)
	p.id = sandbox.PodSandboxID
	var status struct {
		Status struct{ Network struct{ IP netip.Addr } }
	}
	c.call(t, "PodSandboxStatus", object{"pod_sandbox_id": p.id}, &status)
	p.addr = status.Status.Network.IP
	metadata := object{"name": "main", "attempt": config["metadata"].(object)["attempt"]}
	var made struct{ ContainerID string }
	c.call(t, "CreateContainer", object{"pod_sandbox_id": p.id, "sandbox_config": config, "config": object{
		"metadata": metadata, "image": object{"image": containerd.Busybox}, "command": command, "log_path": "main.log",
	}}, &made)
	p.container = made.ContainerID
	c.call(t, "StartContainer", object{"container_id": p.container}, nil)
	return p
}

// exec runs a command in the pod's container and returns what it says if it fails.
func (p pod) exec(t *testing.T, command ...string) error {
	t.Helper()
	var answer struct {
		Stdout, Stderr string // in base64
		ExitCode       int
	}
	p.call(t, "ExecSync", object{"container_id": p.container, "cmd": command, "timeout": 20}, &answer)
	if answer.ExitCode == 0 {
		return nil
	}
	out, _ := base64.StdEncoding.DecodeString(answer.Stdout + answer.Stderr) // for people
	return fmt.Errorf("%s on %s: exit code %d: %s", strings.Join(command, " "), p.host, answer.ExitCode, out)
}

func (p pod) reaches(t *testing.T, to string) {
	t.Helper()
	labtest.Until(t, "a pod of "+p.host+" reaches "+to, func() error { return p.exec(t, "ping", "-c", "1", "-W", "2", to) })
}

// remove stops and removes the pod, as the kubelet does.
func (p pod) remove(t *testing.T) {
	t.Helper()
	p.call(t, "StopPodSandbox", object{"pod_sandbox_id": p.id}, nil)
	p.call(t, "RemovePodSandbox", object{"pod_sandbox_id": p.id}, nil)
}

// sandboxes returns the IDs of the pods of a name, of all of them if that is empty.
func (c cri) sandboxes(t *testing.T, name string) (ids []string) {
	t.Helper()
	var all struct {
		Items []struct {
			ID       string
			Metadata struct{ Name string }
		}
	}
	c.call(t, "ListPodSandbox", object{}, &all)
	for _, i := range all.Items {
		if name == "" || i.Metadata.Name == name {
			ids = append(ids, i.ID)
		}
	}
	return ids
}

// removeAll removes the pods of a name, those too that never came to be: containerd keeps
// what it could not clean up, such as without an agent, for the kubelet to remove.
func (c cri) removeAll(t *testing.T, name string) {
	t.Helper()
	for _, id := range c.sandboxes(t, name) {
		pod{cri: c, id: id}.remove(t)
	}
}

// TestContainerd: pods of two containerds, by the CRI as the kubelet speaks it.
func TestContainerd(t *testing.T) {
	withEach(t, testContainerd)
}

// withEach runs a test with each version of containerd, side by side.
func withEach(t *testing.T, test func(*testing.T, containerd.Version)) {
	t.Helper()
	for _, v := range containerd.Versions(t) {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			test(t, v)
		})
	}
}

func testContainerd(t *testing.T, v containerd.Version) {
	t.Helper()
	daemons := map[string]*containerd.Daemon{}
	l := up(t, func(l *labtest.Lab, host string) { daemons[host] = containerd.Start(t, l, host, v) })
	before := bareHosts(t, l)
	one, two := cri{l, "h1"}, cri{l, "h2"}
	names := func(c cri, more object) object {
		more["dns_config"] = object{"servers": []string{gateway(t, l, c.host)}, "searches": []string{"blue.ovl.internal"}}
		return more
	}
	web := one.pod(t, podConfig("web", names(one, object{
		"port_mappings": []object{{"protocol": "TCP", "container_port": 80, "host_port": 8080}},
		"annotations":   object{"kubernetes.io/ingress-bandwidth": "100M", "kubernetes.io/egress-bandwidth": "100M"},
	})), "peer", "serve", ":80")
	db := two.pod(t, podConfig("db", names(two, object{})), "sleep", "100000")

	t.Run("they reach each other by address and by name", func(t *testing.T) {
		web.reaches(t, db.addr.String())
		db.reaches(t, web.addr.String())
		web.reaches(t, "db-shop")
		db.reaches(t, "web-shop.blue")
	})
	t.Run("a port is published on the host", func(t *testing.T) {
		labtest.Until(t, "the port answers", func() error {
			if r := l.Do(t, "h2", "curl", "-sS", "-m", "5", "http://h1:8080/"); r.Code != 0 || !strings.HasPrefix(r.Stdout, "web ") {
				return fmt.Errorf("%+v", r)
			}
			return nil
		})
	})
	t.Run("the bandwidth is limited", func(t *testing.T) {
		if out := l.Run(t, "h1", "tc", "qdisc", "show"); !strings.Contains(out, "tbf") || !strings.Contains(out, "100Mbit") {
			t.Errorf("no limit in\n%s", out)
		}
	})
	t.Run("containerd and the agent may be killed", func(t *testing.T) {
		if err := l.Kill(t.Context(), "h1", "agent"); err != nil {
			t.Fatal(err)
		}
		daemons["h1"].Kill(t)
		db.reaches(t, web.addr.String()) // nobody is there but the kernel
		daemons["h1"].Start(t)
		labtest.Until(t, "containerd answers", func() error {
			if r := one.try(t, "Version", object{}); r.Code != 0 {
				return errors.New(r.Stderr)
			}
			return nil
		})
		r := one.try(t, "RunPodSandbox", object{"config": podConfig("early", nil)})
		if r.Code == 0 || !strings.Contains(r.Stderr, "agent") {
			t.Errorf("a pod without an agent: %+v", r)
		}
		if err := l.Start(t.Context(), "h1", "agent"); err != nil {
			t.Fatal(err)
		}
		web.reaches(t, "db-shop")
	})
	t.Run("the node is as ready as the agent, where containerd asks", func(t *testing.T) {
		labtest.Until(t, "the network is ready", func() error { return two.networkReady(t) })
		if err := l.Kill(t.Context(), "h2", "agent"); err != nil {
			t.Fatal(err)
		}
		err := two.networkReady(t)
		if v.Status && (err == nil || !strings.Contains(err.Error(), "no ovl-agent answers")) {
			t.Errorf("without an agent the network is not ready: %v", err)
		}
		if !v.Status && err != nil {
			t.Errorf("containerd %s asks for the STATUS: %v", v.Name, err)
		}
		if err := l.Start(t.Context(), "h2", "agent"); err != nil {
			t.Fatal(err)
		}
		labtest.Until(t, "the network is ready again", func() error { return two.networkReady(t) })
	})
	t.Run("the agent is killed while a pod comes, and while it goes", func(t *testing.T) {
		config := podConfig("middle", nil)
		two.interrupted(t, config)
		if err := l.Start(t.Context(), "h2", "agent"); err != nil {
			t.Fatal(err)
		}
		// The kubelet removes a sandbox that did not come to be, and makes another.
		two.removeAll(t, "middle")
		nextAttempt(config)
		middle := two.pod(t, config, "sleep", "100000")
		web.reaches(t, "middle-shop")
		if err := l.Kill(t.Context(), "h2", "agent"); err != nil {
			t.Fatal(err)
		}
		if r := two.try(t, "StopPodSandbox", object{"pod_sandbox_id": middle.id}); r.Code == 0 || !strings.Contains(r.Stderr, "agent") {
			t.Errorf("a pod goes without an agent: %+v", r)
		}
		if err := l.Start(t.Context(), "h2", "agent"); err != nil {
			t.Fatal(err)
		}
		middle.remove(t)
	})
	t.Run("a sandbox that has ended is made anew", func(t *testing.T) {
		config := podConfig("again", nil)
		old := two.pod(t, config, "sleep", "100000")
		daemons["h2"].Must(t, "tasks", "kill", "--signal", "SIGKILL", old.id)
		old.call(t, "StopPodSandbox", object{"pod_sandbox_id": old.id}, nil)
		nextAttempt(config)
		again := two.pod(t, config, "sleep", "100000")
		old.call(t, "RemovePodSandbox", object{"pod_sandbox_id": old.id}, nil)
		labtest.Until(t, "the name is the new one's", func() error {
			return web.exec(t, "sh", "-c", "nslookup -type=a again-shop.blue.ovl.internal | grep "+again.addr.String())
		})
		again.remove(t)
	})
	t.Run("what cannot be is refused, and leaves nothing", func(t *testing.T) {
		had := l.Dump(t, "h2")
		l.Run(t, "h2", "sh", "-c", "sed s/blue/green/ /etc/cni/net.d/10-ovl.conflist >/etc/cni/net.d/05-green.conflist")
		labtest.Until(t, "containerd has read it", func() error {
			r := two.try(t, "RunPodSandbox", object{"config": podConfig("lost", nil)})
			if r.Code == 0 {
				var made struct{ PodSandboxID string }
				if err := json.Unmarshal([]byte(r.Stdout), &made); err != nil {
					t.Fatal(err)
				}
				pod{cri: two, id: made.PodSandboxID}.remove(t)
			}
			if r.Code == 0 || !strings.Contains(r.Stderr, "green") {
				return fmt.Errorf("%+v", r)
			}
			return nil
		})
		l.Run(t, "h2", "rm", "/etc/cni/net.d/05-green.conflist")
		taken := podConfig("taken", object{"port_mappings": []object{{"protocol": "TCP", "container_port": 80, "host_port": 8080}}})
		labtest.Until(t, "a port that is taken is refused", func() error {
			r := one.try(t, "RunPodSandbox", object{"config": taken})
			if r.Code == 0 {
				t.Fatal("two pods have one port")
			}
			if !strings.Contains(r.Stderr, "8080") {
				return errors.New(r.Stderr)
			}
			return nil
		})
		labtest.Until(t, "nothing is left", func() error {
			if d := labtest.Difference(had, l.Dump(t, "h2")); d != "" {
				return errors.New(d)
			}
			return nil
		})
	})
	t.Run("without a controller pods come and go", func(t *testing.T) {
		if err := l.Kill(t.Context(), lab.Control, "controller"); err != nil {
			t.Fatal(err)
		}
		p := two.pod(t, podConfig("alone", nil), "sleep", "100000")
		p.reaches(t, web.addr.String())
		p.remove(t)
		if err := l.Start(t.Context(), lab.Control, "controller"); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("by ctr", func(t *testing.T) {
		ctr := daemons["h1"]
		// It names the namespace by a process of the container: /proc/PID/ns/net.
		ctr.Must(t, "run", "--cni", "-d", "--cgroup", groupParent+"/plain-"+v.Name, containerd.Busybox, "plain", "sleep", "100000")
		if out := ctr.Must(t, "task", "exec", "--exec-id", "x", "plain", "ping", "-c", "1", db.addr.String()); !strings.Contains(out, " 0% packet loss") {
			t.Error(out)
		}
		ctr.Must(t, "task", "kill", "-s", "KILL", "plain")
		labtest.Until(t, "it is removed", func() error {
			if r := ctr.Ctr(t, "task", "delete", "plain"); r.Code != 0 {
				return errors.New(r.Stderr)
			}
			return nil
		})
		ctr.Must(t, "container", "delete", "plain")
	})
	one.removeAll(t, "")
	two.removeAll(t, "")
	before.again(t, l)
}
