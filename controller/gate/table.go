package gate

import (
	"slices"

	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/ovlnet/ovl/internal/identity"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// open are the methods that need no certificate.
var open = map[string]bool{ovlv1.JoinService_Join_FullMethodName: true}

// Who may call, besides admins, who may call everything.
var (
	readers  = []identity.Role{identity.Operator, identity.Viewer}
	changers = []identity.Role{identity.Operator}
	members  = []identity.Role{identity.Operator, identity.Viewer, identity.Host, identity.Controller}
	nobody   = []identity.Role{}
	// bringers are hosts too: what a network may be that one brings in by way of its
	// container engine, and which one it may delete, says admit.
	bringers = []identity.Role{identity.Operator, identity.Host}
)

// table says who may call which method. TestTableIsWhole holds it to the
// services: a new method has to be thought about here.
var table = map[string][]identity.Role{
	ovlv1.NetworkService_CreateNetwork_FullMethodName: bringers,
	ovlv1.NetworkService_GetNetwork_FullMethodName:    readers,
	ovlv1.NetworkService_ListNetworks_FullMethodName:  readers,
	ovlv1.NetworkService_UpdateNetwork_FullMethodName: changers,
	ovlv1.NetworkService_DeleteNetwork_FullMethodName: bringers,
	ovlv1.NetworkService_WatchNetworks_FullMethodName: readers,

	ovlv1.HostService_ListHosts_FullMethodName:  readers,
	ovlv1.HostService_GetHost_FullMethodName:    readers,
	ovlv1.HostService_DrainHost_FullMethodName:  changers,
	ovlv1.HostService_DeleteHost_FullMethodName: nobody, // it revokes

	ovlv1.SubnetService_ListSubnets_FullMethodName:  readers,
	ovlv1.SubnetService_GetSubnet_FullMethodName:    readers,
	ovlv1.SubnetService_WatchSubnets_FullMethodName: readers,

	ovlv1.EndpointService_ListEndpoints_FullMethodName:  readers,
	ovlv1.EndpointService_GetEndpoint_FullMethodName:    readers,
	ovlv1.EndpointService_WatchEndpoints_FullMethodName: readers,

	ovlv1.ControllerService_GetStatus_FullMethodName: readers,

	ovlv1.TokenService_CreateToken_FullMethodName: nobody,
	ovlv1.TokenService_ListTokens_FullMethodName:  nobody,
	ovlv1.TokenService_RevokeToken_FullMethodName: nobody,

	ovlv1.MemberService_ListMembers_FullMethodName:  nobody,
	ovlv1.MemberService_RemoveMember_FullMethodName: nobody,

	ovlv1.EventService_ListEvents_FullMethodName:  nobody,
	ovlv1.EventService_WatchEvents_FullMethodName: nobody,

	ovlv1.AuthorityService_GetAuthorities_FullMethodName:  readers,
	ovlv1.AuthorityService_RotateAuthority_FullMethodName: nobody,
	ovlv1.AuthorityService_FinishRotation_FullMethodName:  nobody,
	ovlv1.AuthorityService_UndoRotation_FullMethodName:    nobody,

	ovlv1.JoinService_Renew_FullMethodName:   members,
	ovlv1.JoinService_Confirm_FullMethodName: members,
	ovlv1.JoinService_WhoAmI_FullMethodName:  members,

	grpc_health_v1.Health_Check_FullMethodName: members,
	grpc_health_v1.Health_List_FullMethodName:  members,
	grpc_health_v1.Health_Watch_FullMethodName: members,

	"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo":      readers,
	"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": readers,
}

// Allowed reports whether a role may call a method.
func Allowed(role identity.Role, method string) bool {
	return role == identity.Admin || slices.Contains(table[method], role)
}

// Named reports whether somebody has thought about who may call a method.
func Named(method string) bool {
	_, named := table[method]
	return named || open[method]
}
