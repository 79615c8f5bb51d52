package dockerdriver

// The messages of libnetwork's remote drivers, as far as they are read or answered:
// libnetwork/drivers/remote/api and libnetwork/ipams/remote/api in moby/moby. Fields
// that are not here are ignored, as newer engines send more.

// The keys of options that are read (libnetwork/netlabel).
const (
	keyMAC         = "com.docker.network.endpoint.macaddress"
	keyRequestType = "RequestAddressType"         // of an address
	typeGateway    = "com.docker.network.gateway" // its value for a gateway
)

// The options of `docker network create -o` that are ours.
const (
	// OptionNetwork names the cluster's network: whoever makes a network of the engine
	// for one of the cluster marks it so.
	OptionNetwork = "ovl.network"
	// OptionEgress says whose the way out is: "ovl" (or nothing), or "docker".
	OptionEgress = "egress"
	egressDocker = "docker"
	egressOvl    = "ovl"
)

type activated struct {
	Implements []string
}

type networkCapabilities struct {
	Scope             string
	ConnectivityScope string
	GwAllocChecker    bool
}

type gatewayCheck struct {
	SkipIPv4, SkipIPv6 bool
}

// ipamData is one subnet of a network (driverapi.IPAMData).
type ipamData struct {
	AddressSpace string
	Pool         string // a prefix
	Gateway      string // an address with the pool's length
}

type createNetwork struct {
	NetworkID          string
	Options            networkOptions
	IPv4Data, IPv6Data []ipamData
}

type networkOptions struct {
	Generic map[string]any `json:"com.docker.network.generic"` // the map of -o
}

type networkRef struct {
	NetworkID string
}

type endpointRef struct {
	NetworkID, EndpointID string
}

type createEndpoint struct {
	NetworkID, EndpointID string
	Interface             *endpointInterface
}

type endpointInterface struct {
	Address     string `json:",omitempty"`
	AddressIPv6 string `json:",omitempty"`
	MacAddress  string `json:",omitempty"`
}

type createdEndpoint struct {
	Interface *endpointInterface
}

type endpointInfo struct {
	Value map[string]string
}

type join struct {
	NetworkID, EndpointID string
	SandboxKey            string
}

type joined struct {
	InterfaceName         interfaceName
	Gateway               string        `json:",omitempty"`
	GatewayIPv6           string        `json:",omitempty"`
	StaticRoutes          []staticRoute `json:",omitempty"`
	DisableGatewayService bool
}

type interfaceName struct {
	SrcName, DstPrefix string
}

// The kinds of a static route (types.NEXTHOP, types.CONNECTED).
const (
	routeNextHop   = 0
	routeConnected = 1
)

type staticRoute struct {
	Destination string
	RouteType   int
	NextHop     string `json:",omitempty"`
}

type programConnectivity struct {
	NetworkID, EndpointID string
	Options               connectivityOptions
}

type connectivityOptions struct {
	PortMap []portBinding `json:"com.docker.network.portmap"`
}

// portBinding is types.PortBinding of libnetwork.
type portBinding struct {
	Proto       uint8  // as in the IP header
	Port        uint16 // the container's
	HostIP      string
	HostPort    uint16 // 0 = any
	HostPortEnd uint16 // the last one of a range
}

type ipamCapabilities struct {
	RequiresMACAddress    bool
	RequiresRequestReplay bool
}

type addressSpaces struct {
	LocalDefaultAddressSpace  string
	GlobalDefaultAddressSpace string
}

type requestPool struct {
	AddressSpace string
	Pool         string
	SubPool      string
	Options      map[string]string
	V6           bool
}

type grantedPool struct {
	PoolID string
	Pool   string
}

type poolRef struct {
	PoolID string
}

type requestAddress struct {
	PoolID  string
	Address string
	Options map[string]string
}

type grantedAddress struct {
	Address string
}

type releaseAddress struct {
	PoolID  string
	Address string
}
