package main

import (
	"encoding/json"
	"slices"

	"github.com/ovlnet/ovl/internal/cluster"
)

// aliases are further names of a container. CONVENTIONS.md of the specification has a
// list; Podman gives one for each configuration by its name, as the plugin dnsname
// reads it, and puts the container's own name and its short ID among them.
type aliases struct {
	list   []string            // for whatever configuration this is
	byName map[string][]string // of the configurations
}

// UnmarshalJSON implements [json.Unmarshaler].
func (a *aliases) UnmarshalJSON(raw []byte) error {
	if json.Unmarshal(raw, &a.list) == nil {
		return nil
	}
	return json.Unmarshal(raw, &a.byName)
}

// aliases returns the names that the runtime wants besides the container's. Its own
// name comes again from Podman, which allows it to be no DNS label; what others know
// the container by is made of it in any case.
func (r *request) aliases() []string {
	given := r.RuntimeConfig.Aliases
	if given.byName == nil {
		return given.list
	}
	own := string(r.cni.K8S_POD_NAME)
	return slices.DeleteFunc(slices.Clone(given.byName[r.Name]), func(s string) bool {
		return s == own && cluster.CheckName(s) != nil || s == r.containerName()
	})
}
