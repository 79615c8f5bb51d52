package attach

import (
	"fmt"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/wire"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// The bounds of a request.
const (
	maxID         = 128 // bytes
	maxInterfaces = 16
	maxPath       = 1024 // bytes, of a namespace's path
	maxPin        = 64   // bytes, of what tells it from the next at that path
	maxHostname   = 64   // HOST_NAME_MAX of Linux
	maxLinkName   = 15   // IFNAMSIZ less the final zero
)

// Request asks for an attachment.
type Request struct {
	ID, Name, NetNS, Hostname string
	Pin                       string // of the namespace: [cluster.Attachment.Pin]
	Interfaces                []Want
	Ports                     []cluster.Port // sorted
	Labels                    map[string]string
	doing                     string // "" = attaching
	stage                     cluster.Stage
	reserving                 bool   // an address, for an endpoint to come
	sandbox                   string // that an engine has named
}

// verb says what is being done, for errors.
func (r Request) verb() string {
	if r.doing != "" {
		return r.doing
	}
	return "attach " + r.Name
}

// ns names the namespace that is meant.
func (r Request) ns() dataplane.NS {
	return dataplane.NSOf(cluster.Attachment{NetNS: r.NetNS, Pin: r.Pin})
}

// Want asks for an interface on a network. What is empty is chosen.
type Want struct {
	Network string
	Name    string
	Addrs   []netip.Addr // at most one of each family
	MAC     cluster.MAC
	Aliases []string
	// Bandwidth limits what the interface carries.
	Bandwidth cluster.Bandwidth
	// Masquerade and MTU are what the network must have; nil and 0 = whatever it has.
	Masquerade *bool
	MTU        int
}

// ParseRequest returns the request in m with its defaults filled in, or every
// violation there is.
func ParseRequest(m *ovlv1.AttachRequest) (Request, error) {
	r := Request{ID: m.GetId(), Name: m.GetName(), NetNS: m.GetNetns(), Hostname: m.GetHostname(), Labels: maps.Clone(m.GetLabels())}
	if r.ID == "" {
		r.ID = r.Name
	}
	if r.Hostname == "" {
		r.Hostname = r.Name
	}
	if len(m.GetInterfaces()) > maxInterfaces { // before work is done for each
		return Request{}, violations{{"interfaces", fmt.Sprintf("%d of them: want at most %d", len(m.GetInterfaces()), maxInterfaces)}}.err("attach")
	}
	var bad violations
	for i, mi := range m.GetInterfaces() {
		r.Interfaces = append(r.Interfaces, parseWant(&bad, fmt.Sprintf("interfaces[%d]", i), mi))
	}
	if len(r.Interfaces) == 0 {
		bad.add("interfaces", "none: want 1 to %d", maxInterfaces)
	}
	r.Ports = parsePorts(&bad, m.GetPorts())
	bad = append(bad, r.check()...)
	if len(bad) > 0 {
		return Request{}, bad.err("attach")
	}
	nameInterfaces(r.Interfaces)
	return r, nil
}

func parseWant(bad *violations, at string, m *ovlv1.InterfaceRequest) Want {
	w := Want{Network: m.GetNetwork(), Name: m.GetName(), Aliases: slices.Clone(m.GetAliases()), Bandwidth: wire.ParseBandwidth(m.GetBandwidth()), MTU: int(m.GetMtu())}
	if m != nil && m.Masquerade != nil {
		w.Masquerade = new(m.GetMasquerade())
	}
	w.Addrs = parseAddrs(bad, at, m.GetAddresses())
	if mac := m.GetMac(); mac != "" {
		parsed, err := cluster.ParseMAC(strings.ToLower(mac))
		if err != nil {
			bad.add(at+".mac", "%v", err)
		} else if parsed.IsZero() {
			bad.add(at+".mac", "all zeroes: leave it empty for a derived one")
		}
		w.MAC = parsed
	}
	return w
}

func parseAddrs(bad *violations, at string, texts []string) []netip.Addr {
	if len(texts) > 2 {
		bad.add(at+".addresses", "%d of them: want at most one of each family", len(texts))
		return nil
	}
	var addrs []netip.Addr
	for i, text := range texts {
		a, err := netip.ParseAddr(text)
		switch {
		case err != nil || a.Zone() != "":
			bad.add(fmt.Sprintf("%s.addresses[%d]", at, i), "%s: want an address, such as 10.64.3.9", quote(text))
			continue
		case len(addrs) > 0 && addrs[0].Is4() == a.Unmap().Is4():
			bad.add(fmt.Sprintf("%s.addresses[%d]", at, i), "%s: the second address of its family", a)
		}
		addrs = append(addrs, a.Unmap())
	}
	return addrs
}

// nameInterfaces gives every interface without a name the next free ethN.
func nameInterfaces(wants []Want) {
	taken := map[string]bool{}
	for _, w := range wants {
		taken[w.Name] = true
	}
	n := 0
	for i := range wants {
		for wants[i].Name == "" {
			if name := fmt.Sprintf("eth%d", n); !taken[name] {
				wants[i].Name = name
			}
			n++
		}
	}
}

// check returns what is wrong with the request in itself.
func (r Request) check() violations {
	var bad violations
	if why := checkID(r.ID); why != "" {
		bad.add("id", "%s", why)
	}
	if err := cluster.CheckEndpointName(r.Name); err != nil {
		bad.add("name", "%v", err)
	}
	r.checkPlace(&bad)
	if why := checkHostname(r.Hostname); why != "" {
		bad.add("hostname", "%s", why)
	}
	checkLabels(&bad, r.Labels)
	checkPorts(&bad, r.Ports)
	// None is fine in what is stored: the last network may be disconnected.
	if n := len(r.Interfaces); n > maxInterfaces {
		bad.add("interfaces", "%d of them: want at most %d", n, maxInterfaces)
	}
	networks, names := map[string]bool{}, map[string]bool{}
	for i, w := range r.Interfaces {
		at := fmt.Sprintf("interfaces[%d]", i)
		w.check(&bad, at)
		if networks[w.Network] {
			bad.add(at+".network", "%s twice: want one interface on each network", quote(w.Network))
		}
		if w.Name != "" && names[w.Name] {
			bad.add(at+".name", "%s twice", quote(w.Name))
		}
		networks[w.Network], names[w.Name] = true, true
	}
	return bad
}

func (w Want) check(bad *violations, at string) {
	if err := cluster.CheckName(w.Network); err != nil {
		bad.add(at+".network", "%v", err)
	}
	if why := checkLinkName(w.Name); why != "" && w.Name != "" {
		bad.add(at+".name", "%s", why)
	}
	if w.MAC[0]&1 != 0 {
		bad.add(at+".mac", "%s is a multicast address: want one with an even first byte", w.MAC)
	}
	if err := w.Bandwidth.Check(); err != nil {
		bad.add(at+".bandwidth", "%v", err)
	}
	if len(w.Aliases) > cluster.MaxAliases {
		bad.add(at+".aliases", "%d of them: want at most %d", len(w.Aliases), cluster.MaxAliases)
		return
	}
	for i, alias := range w.Aliases {
		if err := cluster.CheckEndpointName(alias); err != nil {
			bad.add(fmt.Sprintf("%s.aliases[%d]", at, i), "%v", err)
		}
	}
}

func checkID(s string) string {
	if len(s) < 1 || len(s) > maxID {
		return fmt.Sprintf("%d bytes: want 1 to %d", len(s), maxID)
	}
	if !only(s, "_.-") {
		return quote(s) + ": want letters, digits, '_', '.' and '-'"
	}
	return ""
}

func checkPath(s string) string {
	switch {
	case s == "":
		return "empty: want the path of a network namespace, such as /run/netns/web"
	case len(s) > maxPath:
		return fmt.Sprintf("%d bytes: want at most %d", len(s), maxPath)
	case !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl):
		return quote(s) + ": want printable characters"
	case !path.IsAbs(s) || path.Clean(s) != s:
		return quote(s) + ": want an absolute path without dots and double slashes"
	}
	return ""
}

func checkHostname(s string) string {
	if len(s) > maxHostname {
		return fmt.Sprintf("%d bytes: want at most %d", len(s), maxHostname)
	}
	if !only(s, ".-") || strings.HasPrefix(s, "-") || strings.HasPrefix(s, ".") {
		return quote(s) + ": want letters, digits, '.' and '-'"
	}
	return ""
}

// checkLinkName is stricter than the kernel (dev_valid_name in
// net/core/dev.c), which takes any byte but '/', ':' and white space.
func checkLinkName(s string) string {
	switch {
	case len(s) < 1 || len(s) > maxLinkName:
		return fmt.Sprintf("%s: want 1 to %d bytes", quote(s), maxLinkName)
	case !only(s, "_.-") || s == "." || s == "..":
		return quote(s) + ": want letters, digits, '_', '.' and '-'"
	case s == "lo" || s == "all" || s == "default": // the last two are sysctl directories
		return quote(s) + ": reserved"
	}
	return ""
}

func checkLabels(bad *violations, labels map[string]string) {
	if len(labels) > cluster.MaxLabels {
		bad.add("labels", "%d of them: want at most %d", len(labels), cluster.MaxLabels)
		return
	}
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		v := labels[k]
		if k == "" || len(k) > cluster.MaxLabelLen || len(v) > cluster.MaxLabelLen {
			bad.add("labels", "%s: want a key of 1 to %d bytes and a value of at most %[2]d", quote(k), cluster.MaxLabelLen)
		} else if s := k + v; !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
			bad.add("labels", "%s: want printable characters", quote(k))
		}
	}
}

// only reports whether s has nothing but ASCII digits, letters
// and the bytes of more.
func only(s, more string) bool {
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c >= 'A' && c <= 'Z', strings.IndexByte(more, c) >= 0:
		default:
			return false
		}
	}
	return true
}

// asks reports whether the attachment is what r asks for.
func (r Request) asks(a cluster.Attachment) bool {
	if r.ID != a.ID || r.stage != a.Stage || r.Name != a.Name || r.NetNS != a.NetNS || a.Pin != "" && r.Pin != a.Pin || r.Hostname != a.Hostname ||
		!maps.Equal(r.Labels, a.Labels) || !slices.Equal(r.Ports, a.Ports) || len(r.Interfaces) != len(a.Interfaces) {
		return false
	}
	for n, w := range r.Interfaces {
		if w.Name != a.Interfaces[n].Name || !w.asks(a.Interfaces[n]) {
			return false
		}
	}
	return true
}

// asks reports whether the interface is what w asks for.
func (w Want) asks(i cluster.Interface) bool {
	return w.Network == i.Network && (w.Name == "" || w.Name == i.Name) && slices.Equal(w.Aliases, i.Aliases) && w.Bandwidth == i.Bandwidth &&
		(w.MAC.IsZero() || w.MAC == i.MAC) &&
		!slices.ContainsFunc(w.Addrs, func(addr netip.Addr) bool { return !i.HasAddr(addr) })
}
