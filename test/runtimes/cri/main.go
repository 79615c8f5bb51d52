// Command cri calls a method of a container runtime's CRI: cri SOCKET METHOD JSON, such
// as
//
//	cri /run/containerd/containerd.sock RunPodSandbox '{"config": {"metadata": {"name": "web"}}}'
//
// and prints the answer as JSON. It is a module of its own, so that ovl's go.mod does
// not grow by it.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// patience bounds a call. A runtime that hangs is a finding.
const patience = time.Minute

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "cri:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("%d arguments: want SOCKET METHOD JSON", len(args))
	}
	method, err := find(protoreflect.Name(args[1]))
	if err != nil {
		return err
	}
	in, err := message(method.Input())
	if err != nil {
		return err
	}
	if err := protojson.Unmarshal([]byte(args[2]), in.Interface()); err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	out, err := message(method.Output())
	if err != nil {
		return err
	}
	conn, err := grpc.NewClient("unix:"+args[0], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	path := fmt.Sprintf("/%s/%s", method.Parent().FullName(), method.Name())
	if err := conn.Invoke(ctx, path, in.Interface(), out.Interface()); err != nil {
		return fmt.Errorf("%s: %w", method.Name(), err)
	}
	b, err := protojson.Marshal(out.Interface())
	if err != nil {
		return err
	}
	_, err = fmt.Println(string(b))
	return err
}

// find returns the method of that name, of whichever of the CRI's services has it.
func find(name protoreflect.Name) (protoreflect.MethodDescriptor, error) {
	services := runtime.File_staging_src_k8s_io_cri_api_pkg_apis_runtime_v1_api_proto.Services()
	for i := range services.Len() {
		if m := services.Get(i).Methods().ByName(name); m != nil {
			return m, nil
		}
	}
	return nil, fmt.Errorf("the CRI has no method %s", name)
}

func message(d protoreflect.MessageDescriptor) (protoreflect.Message, error) {
	t, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
	if err != nil {
		return nil, err
	}
	return t.New(), nil
}
