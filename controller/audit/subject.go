package audit

import (
	"strconv"
	"strings"

	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/ovlnet/ovl/internal/cluster"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// reads are the methods that change nothing: they are recorded only where
// somebody was refused who may not call them. A method that is not here is
// always recorded.
var reads = map[string]bool{
	ovlv1.NetworkService_GetNetwork_FullMethodName:    true,
	ovlv1.NetworkService_ListNetworks_FullMethodName:  true,
	ovlv1.NetworkService_WatchNetworks_FullMethodName: true,

	ovlv1.HostService_ListHosts_FullMethodName: true,
	ovlv1.HostService_GetHost_FullMethodName:   true,

	ovlv1.SubnetService_ListSubnets_FullMethodName:  true,
	ovlv1.SubnetService_GetSubnet_FullMethodName:    true,
	ovlv1.SubnetService_WatchSubnets_FullMethodName: true,

	ovlv1.EndpointService_ListEndpoints_FullMethodName:  true,
	ovlv1.EndpointService_GetEndpoint_FullMethodName:    true,
	ovlv1.EndpointService_WatchEndpoints_FullMethodName: true,

	ovlv1.ControllerService_GetStatus_FullMethodName: true,

	ovlv1.TokenService_ListTokens_FullMethodName:   true,
	ovlv1.MemberService_ListMembers_FullMethodName: true,
	ovlv1.EventService_ListEvents_FullMethodName:   true,
	ovlv1.EventService_WatchEvents_FullMethodName:  true,

	ovlv1.AuthorityService_GetAuthorities_FullMethodName: true,
	ovlv1.JoinService_Confirm_FullMethodName:             true, // of what a renewal brought
	ovlv1.JoinService_WhoAmI_FullMethodName:              true,

	grpc_health_v1.Health_Check_FullMethodName: true,
	grpc_health_v1.Health_List_FullMethodName:  true,
	grpc_health_v1.Health_Watch_FullMethodName: true,

	"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo":      true,
	"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": true,
}

// action returns the name of a method, without its service.
func action(method string) string { return method[strings.LastIndexByte(method, '/')+1:] }

// subject says what a request is about, whether or not it is a good one. It
// names; it tells nothing else of the request.
func subject(req any) string {
	switch q := req.(type) {
	case *ovlv1.CreateNetworkRequest:
		return named("network", q.GetName())
	case *ovlv1.UpdateNetworkRequest:
		return named("network", q.GetName())
	case *ovlv1.DeleteNetworkRequest:
		return named("network", q.GetName())
	case *ovlv1.DrainHostRequest:
		return named("host", q.GetName())
	case *ovlv1.DeleteHostRequest:
		return named("host", q.GetName())
	case *ovlv1.CreateTokenRequest:
		return "token"
	case *ovlv1.RevokeTokenRequest:
		return named("token", q.GetId())
	case *ovlv1.RemoveMemberRequest:
		return named(printed(q.GetRole()), q.GetName())
	case *ovlv1.JoinRequest:
		if q.GetHostId() == "" {
			return named("member", q.GetName())
		}
		return named("host", q.GetName())
	case *ovlv1.RenewRequest:
		return "certificate"
	case *ovlv1.RotateAuthorityRequest, *ovlv1.FinishRotationRequest, *ovlv1.UndoRotationRequest:
		return "CA"
	}
	return ""
}

func named(kind, name string) string { return strings.TrimSpace(kind + " " + printed(name)) }

// maxName bounds what is recorded of a name that is none.
const maxName = 64

// printed quotes what is no name: it comes from anybody.
func printed(name string) string {
	if name == "" || cluster.CheckName(name) == nil {
		return name
	}
	return strconv.QuoteToASCII(name[:min(len(name), maxName)])
}
