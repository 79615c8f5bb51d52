package main

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/ovlnet/ovl/internal/cluster"
)

// The labels by which an attachment is known to be ours.
const (
	labelNetwork     = "cni.dev/network" // name of the configuration
	labelContainerID = "cni.dev/container-id"
	labelIfName      = "cni.dev/ifname"
	labelPod         = "io.kubernetes.pod.name"
	labelNamespace   = "io.kubernetes.pod.namespace"
)

// maxID is the longest ID that the agent takes, in bytes.
const maxID = 128

// attachmentID returns the agent's ID for what the specification identifies by
// container ID and interface name. It begins readably; the hash at its end tells
// "a-b" with "c" from "a" with "b-c", and long container IDs from each other.
func attachmentID(containerID, ifName string) string {
	sum := sha256.Sum256([]byte(containerID + "\x00" + ifName))
	end := "-" + hex.EncodeToString(sum[:6])
	id := containerID + "-" + only(ifName)
	return id[:min(len(id), maxID-len(end))] + end
}

// only returns s with what the agent does not take in an ID replaced.
func only(s string) string {
	return strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-' {
			return c
		}
		return '_'
	}, s)
}

// containerName returns the name that other containers know this one by: the
// pod's with its namespace, as those are unique together, or else the
// container's ID, made a DNS label.
func (r *request) containerName() string {
	if pod := string(r.cni.K8S_POD_NAME); pod != "" {
		s := pod
		if ns := string(r.cni.K8S_POD_NAMESPACE); ns != "" {
			s += "-" + ns
		}
		return dnsLabel(s)
	}
	return dnsLabel(r.args.ContainerID)
}

// dnsLabel returns s if it is a DNS label, and otherwise one made of it: what no
// label may have becomes "-", and a hash keeps different texts apart.
func dnsLabel(s string) string {
	if cluster.CheckName(s) == nil {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	end := hex.EncodeToString(sum[:4])
	label := strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
			return c
		case c >= 'A' && c <= 'Z':
			return c - 'A' + 'a'
		}
		return '-'
	}, s)
	label = strings.Trim(label[:min(len(label), cluster.MaxNameLen-len(end)-1)], "-")
	if label == "" {
		return end
	}
	return label + "-" + end
}

func (r *request) labels() map[string]string {
	l := map[string]string{labelNetwork: r.Name, labelContainerID: r.args.ContainerID, labelIfName: r.args.IfName}
	for k, v := range map[string]string{labelPod: string(r.cni.K8S_POD_NAME), labelNamespace: string(r.cni.K8S_POD_NAMESPACE)} {
		if v != "" {
			l[k] = v
		}
	}
	for k, v := range l {
		l[k] = v[:min(len(v), cluster.MaxLabelLen)]
	}
	// Additional data, which a plugin may ignore: what cannot be a label is.
	for _, a := range r.Args.CNI.Labels {
		if _, ours := l[a.Key]; !ours && len(l) < cluster.MaxLabels && a.Key != "" && len(a.Key) <= cluster.MaxLabelLen && len(a.Value) <= cluster.MaxLabelLen {
			l[a.Key] = a.Value
		}
	}
	return l
}
