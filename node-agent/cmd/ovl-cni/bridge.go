package main

// bridgeConf is what people have in a configuration of the reference bridge plugin. What
// agrees with how ovl's networks are is taken; what contradicts it is refused, since a
// container that has less than its configuration says is worse than none.
// docs/guide/cni.md has the table.
type bridgeConf struct {
	IPMasq           *bool `json:"ipMasq,omitempty"`
	MTU              int   `json:"mtu,omitempty"`
	IsGateway        *bool `json:"isGateway,omitempty"`
	IsDefaultGateway *bool `json:"isDefaultGateway,omitempty"`
	MACSpoofChk      *bool `json:"macspoofchk,omitempty"`

	VLAN                      int   `json:"vlan,omitempty"`
	VLANTrunk                 []any `json:"vlanTrunk,omitempty"`
	DisableContainerInterface bool  `json:"disableContainerInterface,omitempty"`
	PortIsolation             bool  `json:"portIsolation,omitempty"`
}

// check returns what contradicts ovl's networks.
func (b bridgeConf) check() error {
	no := func(p *bool) bool { return p != nil && !*p }
	switch {
	case no(b.IsGateway), no(b.IsDefaultGateway):
		return invalid("isGateway, isDefaultGateway: false: a network of ovl without a way out is one made with `ovlctl network create --internal`: leave the field out")
	case no(b.MACSpoofChk):
		return invalid("macspoofchk: false: ovl always holds a container to its own MAC and addresses: leave the field out")
	case b.VLAN != 0, len(b.VLANTrunk) > 0:
		return invalid("vlan, vlanTrunk: containers that are apart are on networks of their own: name another with \"network\"")
	case b.DisableContainerInterface:
		return invalid("disableContainerInterface: an interface of ovl is up: leave the field out")
	case b.PortIsolation:
		return invalid("portIsolation: containers of one network reach each other: put them on networks of their own")
	case b.MTU < 0 || b.MTU > 65535:
		return invalid("mtu: %d: want bytes", b.MTU)
	}
	return nil
}
