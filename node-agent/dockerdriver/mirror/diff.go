package mirror

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/node-agent/dockerdriver"
	"github.com/ovlnet/ovl/node-agent/dockerdriver/engine"
)

// Driver is the name by which engines know the driver: that of its socket.
const Driver = "ovl"

// LabelEgress is the label of a network of the cluster that says what way out its
// containers have with engines: "docker" for the engine's own.
const LabelEgress = "docker.egress"

// Have is what there is on the engine.
type Have struct {
	Networks []engine.Network
	// Bound are the cluster's names of the engine's networks, by ID, as far as they
	// were learnt: of those that are not marked.
	Bound map[string]string
	// OnlyIPv6: the engine can have networks without IPv4.
	OnlyIPv6 bool
}

// Verb is what an operation does.
type Verb string

// The verbs.
const (
	Create Verb = "create" // a network of the cluster, on the engine
	Remove Verb = "remove" // one from the engine
	Adopt  Verb = "adopt"  // one of the engine into the cluster
	Bind   Verb = "bind"   // learn which of the cluster's one of the engine's is
)

// Op is one operation.
type Op struct {
	Verb    Verb
	Docker  engine.Network // as there is, or to be
	Network string         // the cluster's name
}

// String implements [fmt.Stringer].
func (o Op) String() string {
	return fmt.Sprintf("%s docker network %s for %s", o.Verb, o.Docker.Name, o.Network)
}

// Diff returns what makes the engine's networks what the cluster's are, and what is
// in the way. Operations are in the order in which they are to be done.
func Diff(want []cluster.Network, have Have) ([]Op, []cluster.Problem) {
	d := differ{have: have, want: map[string]cluster.Network{}, has: map[string]engine.Network{}, named: map[string]engine.Network{}}
	for _, n := range want {
		d.want[n.Name] = n
	}
	docker := slices.Clone(have.Networks)
	slices.SortFunc(docker, func(a, b engine.Network) int { return cmp.Compare(a.ID, b.ID) })
	for _, h := range docker {
		d.named[h.Name] = h
	}
	for _, h := range docker {
		if h.Driver == Driver {
			d.known(h)
		}
	}
	for _, n := range want {
		d.missing(n)
	}
	slices.SortStableFunc(d.ops, func(a, b Op) int { return cmp.Or(cmp.Compare(a.rank(), b.rank()), cmp.Compare(a.Network, b.Network)) })
	return d.ops, d.problems
}

// rank orders operations: what goes makes room for what comes.
func (o Op) rank() int { return slices.Index([]Verb{Remove, Bind, Adopt, Create}, o.Verb) }

type differ struct {
	have     Have
	want     map[string]cluster.Network
	has      map[string]engine.Network // by the cluster's name
	named    map[string]engine.Network // by the engine's name
	ops      []Op
	problems []cluster.Problem
}

func (d *differ) do(v Verb, h engine.Network, network string) {
	d.ops = append(d.ops, Op{v, h, network})
}

func (d *differ) fault(severity cluster.Severity, subject, what, hint string) {
	d.problems = append(d.problems, cluster.Problem{Severity: severity, Subject: subject, What: what, Hint: hint})
}

// NameOf returns the cluster's name of a network that the engine calls so: in lower
// case, and with a dash for what no DNS label has, such as Compose's underscores.
func NameOf(docker string) string {
	return strings.Trim(strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '-'
	}, docker), "-")
}

// networkOf returns the cluster's name of one of the engine's networks, and whether
// that was decided earlier and not only follows from what it is called.
func networkOf(h engine.Network, bound map[string]string) (name string, decided bool) {
	if name := h.Options[dockerdriver.OptionNetwork]; name != "" {
		return name, true
	}
	if name := bound[h.ID]; name != "" {
		return name, true
	}
	return NameOf(h.Name), false
}

// known decides about a network of our driver that the engine has.
func (d *differ) known(h engine.Network) {
	name, decided := networkOf(h, d.have.Bound)
	subject := "docker network " + h.Name
	if cluster.CheckName(name) != nil {
		d.fault(cluster.SeverityError, subject, "no network of the cluster can have its name", "remove it, and create it with a name of 1 to 63 of a-z, 0-9 and -")
		return
	}
	n, wanted := d.want[name]
	other, taken := d.has[name]
	switch {
	case wanted && taken:
		d.fault(cluster.SeverityError, subject, fmt.Sprintf("it stands for network %s, and so does docker network %s", name, other.Name), "remove one of the two with `docker network rm`")
	case wanted && same(n, h):
		d.has[name] = h
		if !decided {
			d.do(Bind, h, name)
		}
	case decided: // the network is gone, or was made anew otherwise
		d.do(Remove, h, name)
		delete(d.named, h.Name)
	case wanted:
		d.has[name] = h // in its place: one of the two has to go first
		d.fault(cluster.SeverityError, subject, fmt.Sprintf("network %s is in the cluster with other settings: subnets %s, internal %t", name, subnets(n), n.Internal),
			"remove it with `docker network rm "+h.Name+"`: the cluster's will appear in its place")
	default:
		d.do(Adopt, h, name)
		d.has[name] = h
	}
}

// missing makes a network of the cluster that the engine does not have.
func (d *differ) missing(n cluster.Network) {
	if _, ok := d.has[n.Name]; ok {
		return
	}
	if h, ok := d.named[n.Name]; ok {
		d.fault(cluster.SeverityError, "network "+n.Name, fmt.Sprintf("this host's container engine has a network of that name, with the driver %s", h.Driver),
			"remove that one with `docker network rm "+n.Name+"`, and this one appears in its place")
		return
	}
	if !d.have.OnlyIPv6 && !slices.ContainsFunc(n.Pools, func(p cluster.Pool) bool { return p.Prefix.Addr().Is4() }) {
		d.fault(cluster.SeverityWarning, "network "+n.Name, "this host's container engine cannot have it: it has no network without IPv4 before engine 28", "upgrade the engine, or give the network an IPv4 subnet")
		return
	}
	d.do(Create, docker(n), n.Name)
}

// docker returns the engine's network for one of the cluster.
func docker(n cluster.Network) engine.Network {
	out := engine.Network{Name: n.Name, Driver: Driver, IPAM: Driver, Internal: n.Internal, Options: map[string]string{dockerdriver.OptionNetwork: n.Name}}
	for _, p := range n.Pools {
		out.Subnets = append(out.Subnets, p.Prefix)
	}
	if egress := n.Labels[LabelEgress]; egress != "" {
		out.Options[dockerdriver.OptionEgress] = egress
	}
	return out
}

// same reports whether a network of the engine is as one of the cluster is.
func same(n cluster.Network, h engine.Network) bool {
	want, have := docker(n).Subnets, slices.Clone(h.Subnets)
	slices.SortFunc(want, cluster.ComparePrefix)
	slices.SortFunc(have, cluster.ComparePrefix)
	return slices.Equal(want, have) && n.Internal == h.Internal
}

func subnets(n cluster.Network) string {
	var all []string
	for _, p := range n.Pools {
		all = append(all, p.Prefix.String())
	}
	return strings.Join(all, " and ")
}

// prefixes is for messages to the controller.
func prefixes(all []netip.Prefix) []string {
	out := make([]string, len(all))
	for i, p := range all {
		out[i] = p.String()
	}
	return out
}
