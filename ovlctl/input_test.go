package main

import (
	"strings"
	"testing"
)

// Every one of these is refused with one line before anybody is asked.
func TestBadInput(t *testing.T) {
	for line, want := range map[string]string{
		"nonsense":                                                `no command "nonsense"; see ovlctl --help`,
		"network nonsense":                                        `network: no command "nonsense"; see ovlctl network --help`,
		"network ls surplus":                                      `network ls: "surplus" is too much; see ovlctl network ls --help`,
		"network ls --nonsense":                                   `network ls: unknown flag: --nonsense; see ovlctl network ls --help`,
		"network ls -o xml":                                       `--output "xml": want one of table, wide, json, yaml, name`,
		"network ls --timeout -1s":                                `--timeout -1s: want more than zero`,
		"network ls --controller a:b:c":                           `--controller "a:b:c": want HOST:PORT`,
		"network ls --controller h:99999":                         `--controller "h:99999": want HOST:PORT`,
		"network ls --config /nowhere/config.yaml":                `read configuration: open /nowhere/config.yaml: no such file or directory`,
		"network create":                                          `network create: NAME is missing; see ovlctl network create --help`,
		"network create b --driver tube":                          `--driver "tube": want one of overlay, bridge, macvlan`,
		"network create b --label x":                              `--label "x": want KEY=VALUE`,
		"network create b --label x=1 --label x=2":                `--label "x=2": x is given twice`,
		"network create b --host-prefix 24 --host-prefix 64":      `--host-prefix: 2 given for 0 of --subnet`,
		"network create b --host-prefix 129":                      `--host-prefix 129: want at most 128`,
		"network update b":                                        `update network b: nothing to change; see ovlctl network update --help`,
		"network rm":                                              `network rm: NAME is missing; see ovlctl network rm --help`,
		"network rm b":                                            `remove network b: nobody to ask without a terminal; say --yes`,
		"host rm h1":                                              `remove host h1: nobody to ask without a terminal; say --yes`,
		"run --network blue":                                      `run: --name is missing; see ovlctl run --help`,
		"run --name web":                                          `--network is missing; see ovlctl network ls`,
		"run --name Web --network blue":                           `--name: name "Web": want 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit`,
		"run --name ../x --network blue":                          `--name: name "../x": want 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit`,
		"run --name web --network container:":                     `--network container: name "": want 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit`,
		"run --name web --network host --network blue":            `--network host: it does not go with other networks`,
		"run --name web --network blue --network container:db":    `--network container:db: it does not go with other networks`,
		"run --name web --network host --ip 10.0.0.1":             `--network host: there is no interface for --ip, --mac or --alias`,
		"run --name web --network container:db --alias x":         `--network container:db: there is no interface for --ip, --mac or --alias`,
		"run --name web --network container:web":                  `run sandbox web: --network container:web: that is itself`,
		"run --name web --network blue,ip=x":                      `--network blue,ip "x": want an address such as 10.64.3.2`,
		"run --name web --network blue,teleport=1":                `--network "blue,teleport=1": want NETWORK[,ip=A][,mac=M][,alias=N][,interface=I]`,
		"run --name web --network none --add-host a:host-gateway": `--add-host a:host-gateway: with --network none there is no way to the host`,
		"run --name web --network blue --dns-option a=b":          `--dns-option "a=b": want an option of resolv.conf(5), such as ndots:2`,
		"connect red":                                             `connect: CONTAINER is missing; see ovlctl connect --help`,
		"connect Red web":                                         `connect: network: name "Red": want 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit`,
		"connect red web --ip 10":                                 `--ip "10": want an address such as 10.64.3.2`,
		"disconnect red":                                          `disconnect: CONTAINER is missing; see ovlctl disconnect --help`,
		"run --name web --network none --network blue":            `--network none: it does not go with other networks`,
		"run --name web --network none --ip 10.0.0.1":             `--network none: there is no interface for --ip, --mac or --alias`,
		"run --name web --network blue --ip 10.0.0.256":           `--ip "10.0.0.256": want an address such as 10.64.3.2`,
		"run --name web --network blue --mac 01:00:00:00:00:01":   `--mac "01:00:00:00:00:01": want a unicast address such as 02:4a:00:00:00:01`,
		"run --name web --network blue --alias A":                 `--alias: name "A": want 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit`,
		"run --name web --network blue --dns x":                   `--dns "x": want an address`,
		"run --name web --network blue --dns-search -":            `--dns-search "-": want a domain`,
		"run --name web --network blue --add-host x":              `--add-host "x": want NAME:IP`,
		"run --name web --network blue --rm":                      `--rm: it needs a command in the foreground`,
		"attach --name web --network blue":                        `--netns or --pid is missing; see ovlctl attach --help`,
		"attach --netns a --pid 1 --name web --network blue":      `--netns and --pid: want one of them`,
		"attach --netns a --network blue":                         `--name is missing; see ovlctl attach --help`,
		"attach --netns a --name A --network blue":                `--name: name "A": want 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit`,
		"attach --netns a --name web":                             `--network is missing; see ovlctl network ls`,
		"attach --netns a --name web --network host":              `--network host: it is no network that a namespace could be on`,
		"attach --netns a --name web --network none":              `--network none: it is no network that a namespace could be on`,
		"attach --netns .. --name web --network blue":             `--netns "..": want the path of a network namespace, or its name in ip netns`,
		"attach --netns /proc/self/ns/net --name w --network b":   `--netns /proc/self/ns/net: to the agent that is itself: name a process with --pid`,
		"attach --pid -1 --name web --network blue":               `--pid -1: want the number of a process`,
		"attach --pid x --name web --network blue":                `attach: invalid argument "x" for "--pid" flag: strconv.ParseInt: parsing "x": invalid syntax; see ovlctl attach --help`,
		"attach --netns a --name web --network blue -p 80":        `--publish "80": want [HOSTIP:]HOSTPORT:PORT[/tcp|udp], such as 8080:80, 127.0.0.1:8080:80, [2001:db8::1]:5353:53/udp or 8000-8009:80-89`,
		"attach web --netns a --name web --network blue":          `attach: "web" is too much; see ovlctl attach --help`,
		"detach":         `detach: NAME is missing; see ovlctl detach --help`,
		"exec":           `exec: NAME COMMAND is missing; see ovlctl exec --help`,
		"exec web --":    `exec: COMMAND is missing; see ovlctl exec --help`,
		"exec ../x true": `exec: name "../x": want 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit`,
		"rm":             `rm: NAME is missing; see ovlctl rm --help`,
		"rm ../x":        `remove sandbox: name "../x": want 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit`,
		"whois":          `whois: VETH|IP|MAC|CONTAINER is missing; see ovlctl whois --help`,
	} {
		t.Run(line, func(t *testing.T) {
			w := newWorld(t)
			w.want(exitUsage, "", "ovlctl: "+want+"\n", strings.Fields(line)...)
			if w.controller.last != nil || w.agent.request != nil {
				t.Error("somebody was asked")
			}
			w.nothingLeft()
		})
	}
}

// Whatever a command line holds, the answer to it is no panic, and a refusal is
// one line.
func FuzzRunFlags(f *testing.F) {
	f.Add("web", "blue", "10.64.3.2", "02:00:00:00:00:01", "db:10.0.0.1", "web.example")
	f.Fuzz(func(t *testing.T, name, network, ip, mac, host, hostname string) {
		flags := runFlags{name: name, networks: []string{network}, ips: []string{ip}, mac: mac, hosts: []string{host}, hostname: hostname}
		spec, err := flags.spec(nil)
		if err != nil {
			return
		}
		for _, l := range spec.hosts {
			if strings.ContainsAny(strings.Join(l.Names, ""), "\n\t #") {
				t.Errorf("%q reaches /etc/hosts", l.Names)
			}
		}
		if strings.ContainsAny(spec.hostname, "\n/ ") {
			t.Errorf("hostname %q is accepted", spec.hostname)
		}
	})
}
