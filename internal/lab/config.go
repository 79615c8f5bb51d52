package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// The hosts of every lab besides h1, h2, ….
const (
	// Control is the host that runs the controller with its embedded etcd.
	Control = "control"
	// Outside is a stranger on the underlay, no member. The others' default
	// route leads there, and on EchoPort it tells each caller's address.
	Outside = "outside"
)

// EchoPort is the TCP port on which [Outside] answers each caller with the
// address that it sees.
const EchoPort = 7777

// The bounds of a lab. A host costs some 60 MB with its agent.
const (
	MaxHosts = 200
	MinMTU   = 1280 // of IPv6, RFC 8200 section 5
	MaxMTU   = 65535
)

// Config says what lab to make. The zero value of each field but Hosts is
// usable.
type Config struct {
	Name   string `json:"name"`   // a DNS label; empty: lab
	Hosts  int    `json:"hosts"`  // how many h1, h2, …; 1 to MaxHosts
	MTU    int    `json:"mtu"`    // of the underlay, in bytes; 0: 1500
	IPv6   bool   `json:"ipv6"`   // an underlay of IPv6 addresses
	BinDir string `json:"binDir"` // where ovl-agent, ovl-controller and ovlctl are; empty: beside this executable
	Root   string `json:"root"`   // where labs are recorded; empty: DefaultRoot

	// Steady gives h1, h2, … the same HostIDs in every lab, and so the same
	// subnets and MACs to what is made there in the same order.
	Steady bool `json:"steady"`
	// Bare starts no daemons: hosts and their underlay, nothing else.
	Bare bool `json:"bare"`
	// Idle starts no agents; the controller runs. See Start.
	Idle bool `json:"idle"`
	// Tether ends the lab with the calling process, however that ends.
	Tether bool `json:"-"`
	// Etcd are the URLs of an etcd that the controller uses in the place of its own;
	// whoever makes the lab runs it, on hosts without agents.
	Etcd []string `json:"etcd,omitempty"`
	// AgentArgs and ControllerArgs are added to the daemons' command lines.
	AgentArgs      []string `json:"agentArgs,omitempty"`
	ControllerArgs []string `json:"controllerArgs,omitempty"`
	// Ready bounds the wait for the daemons; 0: a minute.
	Ready time.Duration `json:"ready"`
}

// ErrInvalid is a configuration that no lab can have.
var ErrInvalid = errors.New("invalid")

var dnsLabel = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// withDefaults returns c with the defaults filled in, or what is wrong with it.
func (c Config) withDefaults() (Config, error) {
	c.Name = orString(c.Name, "lab")
	c.MTU = orInt(c.MTU, 1500)
	if c.Ready == 0 {
		c.Ready = time.Minute
	}
	if !dnsLabel.MatchString(c.Name) {
		return c, fmt.Errorf("name of lab %q: %w: want 1 to 63 of a-z, 0-9 and -", c.Name, ErrInvalid)
	}
	if c.Hosts < 1 || c.Hosts > MaxHosts {
		return c, fmt.Errorf("hosts %d: %w: want 1 to %d", c.Hosts, ErrInvalid, MaxHosts)
	}
	if c.MTU < MinMTU || c.MTU > MaxMTU {
		return c, fmt.Errorf("underlay MTU %d: %w: want %d to %d", c.MTU, ErrInvalid, MinMTU, MaxMTU)
	}
	var err error
	if c.BinDir, err = binDir(c.BinDir); err != nil {
		return c, err
	}
	if c.Root == "" {
		if c.Root, err = DefaultRoot(); err != nil {
			return c, err
		}
	}
	c.Root, err = filepath.Abs(c.Root)
	return c, err
}

// names returns the hosts of the lab in the order in which they start.
func (c Config) names() []string {
	names := []string{Control, Outside}
	for i := range c.Hosts {
		names = append(names, fmt.Sprintf("h%d", i+1))
	}
	return names
}

// members returns h1, h2, ….
func (c Config) members() []string { return c.names()[2:] }

// The last part of the addresses that are not a member's, and of the keeper
// itself, which asks the daemons whether they are ready.
const (
	partSwitch  = 252
	partControl = 253
	partOutside = 254
)

// address returns the underlay address of the host with the given part, with
// the length of the underlay's prefix. The ranges are private (RFC 1918,
// RFC 4193) and exist in the lab's own namespaces only.
func (c Config) address(part int) netip.Prefix {
	if c.IPv6 {
		return netip.MustParsePrefix(fmt.Sprintf("fd77::%d/64", part))
	}
	return netip.MustParsePrefix(fmt.Sprintf("192.168.77.%d/24", part))
}

// part returns the last part of the address of the i-th of names.
func part(i int) int {
	switch i {
	case 0:
		return partControl
	case 1:
		return partOutside
	default:
		return i - 1
	}
}

// everywhere is the prefix of a default route.
func (c Config) everywhere() netip.Prefix {
	if c.IPv6 {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}

func orString(s, or string) string {
	if s == "" {
		return or
	}
	return s
}

func orInt(n, or int) int {
	if n == 0 {
		return or
	}
	return n
}

// hides returns the directory of which every host of a lab has its own and
// which therefore hides path, or "".
func hides(path string) string {
	for _, d := range []string{"/run", "/var/run", "/etc/netns", "/var/lib/ovl", "/var/log/ovl", "/proc", "/sys"} {
		if path == d || strings.HasPrefix(path, d+"/") {
			return d
		}
	}
	return ""
}
