package server

import (
	"context"

	"google.golang.org/grpc/stats"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

// AttributeOf is attributeOf, for tests.
var AttributeOf = attributeOf

// Call is one gRPC call of Mount without gRPC and its socket, which a bubble of testing/synctest
// cannot have.
func (s *Server) Call(ctx context.Context, in *v1alpha1.MountRequest) (*v1alpha1.MountResponse, error) {
	ctx = ends{}.TagRPC(ctx, nil)
	defer ends{}.HandleRPC(ctx, new(stats.End))
	return s.Mount(ctx, in)
}
