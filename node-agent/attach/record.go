package attach

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/ovlnet/ovl/internal/cluster"
)

// maxRecord bounds a record of the journal, in bytes: sixteen interfaces with
// every alias and label at its longest stay below it.
const maxRecord = 1 << 20

// record is an attachment as the journal holds it. It has tags of its own, so
// that renaming a field of the fact cannot lose a container on upgrade; fields
// that a newer version added are ignored.
type record struct {
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	NetNS      string            `json:"netns"`
	Pin        string            `json:"pin,omitempty"`
	Hostname   string            `json:"hostname,omitempty"`
	Interfaces []recordInterface `json:"interfaces"`
	Ports      []recordPort      `json:"ports,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	Created    time.Time         `json:"created"`
	Stage      cluster.Stage     `json:"stage,omitempty"`
	Sandbox    string            `json:"sandbox,omitempty"`
	Onward     bool              `json:"onward,omitempty"`
}

type recordInterface struct {
	Network        string         `json:"network"`
	NetworkCreated int64          `json:"networkCreated"`
	Name           string         `json:"name"`
	Addrs          []netip.Prefix `json:"addrs"`
	Via            []netip.Prefix `json:"via,omitempty"`
	MAC            cluster.MAC    `json:"mac"`
	Aliases        []string       `json:"aliases,omitempty"`
	Segment        int            `json:"segment,omitempty"`
	Ingress        recordRate     `json:"ingress,omitzero"`
	Egress         recordRate     `json:"egress,omitzero"`
}

type recordRate struct {
	Bits  uint64 `json:"bits"`
	Burst uint64 `json:"burst"`
}

func recordOf(i cluster.Interface) recordInterface {
	return recordInterface{
		Network: i.Network, NetworkCreated: i.NetworkCreated, Name: i.Name, Addrs: i.Addrs, Via: i.Via, MAC: i.MAC,
		Aliases: i.Aliases, Segment: i.Segment, Ingress: recordRate(i.Bandwidth.Ingress), Egress: recordRate(i.Bandwidth.Egress),
	}
}

func (i recordInterface) fact() cluster.Interface {
	return cluster.Interface{
		Network: i.Network, NetworkCreated: i.NetworkCreated, Name: i.Name, Addrs: i.Addrs, Via: i.Via, MAC: i.MAC,
		Aliases: i.Aliases, Segment: i.Segment,
		Bandwidth: cluster.Bandwidth{Ingress: cluster.Rate(i.Ingress), Egress: cluster.Rate(i.Egress)},
	}
}

type recordPort struct {
	Proto         cluster.Proto `json:"proto"`
	HostIP        netip.Addr    `json:"hostIP,omitzero"`
	HostPort      uint16        `json:"hostPort"`
	ContainerPort uint16        `json:"containerPort"`
}

func encode(a cluster.Attachment) ([]byte, error) {
	r := record{ID: a.ID, Name: a.Name, NetNS: a.NetNS, Pin: a.Pin, Hostname: a.Hostname, Labels: a.Labels, Created: a.Created, Stage: a.Stage, Sandbox: a.Sandbox, Onward: a.Onward}
	for _, i := range a.Interfaces {
		r.Interfaces = append(r.Interfaces, recordOf(i))
	}
	for _, p := range a.Ports {
		r.Ports = append(r.Ports, recordPort(p))
	}
	raw, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode attachment %q: %w", a.ID, err)
	}
	return raw, nil
}

// decode returns the attachment in raw, found under key. What is on disk is
// checked like what comes over the socket: the file may be of another version,
// damaged, or edited by hand, and its paths are opened as root.
func decode(key string, raw []byte) (cluster.Attachment, error) {
	var zero cluster.Attachment
	if len(raw) > maxRecord {
		return zero, fmt.Errorf("decode attachment %s: %d bytes, want at most %d", quote(key), len(raw), maxRecord)
	}
	var r record
	if err := json.Unmarshal(raw, &r); err != nil {
		return zero, fmt.Errorf("decode attachment %s: %w", quote(key), err)
	}
	a := cluster.Attachment{ID: r.ID, Name: r.Name, NetNS: r.NetNS, Pin: r.Pin, Hostname: r.Hostname, Labels: r.Labels, Created: r.Created, Stage: r.Stage, Sandbox: r.Sandbox, Onward: r.Onward}
	for _, i := range r.Interfaces {
		a.Interfaces = append(a.Interfaces, i.fact())
	}
	for _, p := range r.Ports {
		a.Ports = append(a.Ports, cluster.Port(p))
	}
	if a.ID != key {
		return zero, fmt.Errorf("decode attachment %s: the record is of %s", quote(key), quote(a.ID))
	}
	if err := checkStored(a); err != nil {
		return zero, fmt.Errorf("decode attachment %s: %w", quote(key), err)
	}
	return a, nil
}

// checkStored holds a stored attachment to the rules of a request, and to those
// of what was chosen for it.
func checkStored(a cluster.Attachment) error {
	r := Request{ID: a.ID, Name: a.Name, NetNS: a.NetNS, Hostname: a.Hostname, Ports: a.Ports, Labels: a.Labels, stage: a.Stage, sandbox: a.Sandbox}
	for _, i := range a.Interfaces {
		r.Interfaces = append(r.Interfaces, Want{Network: i.Network, Name: i.Name, MAC: i.MAC, Aliases: i.Aliases, Bandwidth: i.Bandwidth})
	}
	if bad := r.check(); len(bad) > 0 {
		return errors.New(bad.String())
	}
	if len(a.Pin) > maxPin || !only(a.Pin, "-") {
		return fmt.Errorf("pin %s: want at most %d letters, digits and '-'", quote(a.Pin), maxPin)
	}
	for _, i := range a.Interfaces {
		if i.Name == "" || i.MAC.IsZero() || len(i.Addrs) == 0 {
			return fmt.Errorf("interface on network %s: no name, MAC or address", i.Network)
		}
		if err := checkSegment(i); err != nil {
			return err
		}
		families := map[int]bool{}
		for _, p := range i.Addrs {
			if !p.IsValid() || p.Addr().Is4In6() || families[p.Addr().BitLen()] {
				return fmt.Errorf("interface %s: address %s is no address, or the second of its family", i.Name, p)
			}
			families[p.Addr().BitLen()] = true
		}
		for n, p := range i.Via {
			if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() || n > 1 || n == 1 && p.Addr().Is4() == i.Via[0].Addr().Is4() {
				return fmt.Errorf("interface %s: gateway's subnet %s is no subnet, or the second of its family", i.Name, p)
			}
		}
	}
	return nil
}

// quote makes hostile text fit for one line.
func quote(s string) string {
	if len(s) > 80 {
		s = s[:80] + "…"
	}
	return fmt.Sprintf("%q", s)
}
