package etcd

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

// A call to a server that cannot be reached waits for its deadline, and the
// client then reports only that. gRPC knew why: "connection refused". cause
// keeps that for whoever reads the error.
type cause struct{ text string }

type causeKey struct{}

// withCause returns a context whose calls note in the cause why they failed.
func withCause(ctx context.Context) (context.Context, *cause) {
	c := &cause{}
	return context.WithValue(ctx, causeKey{}, c), c
}

// because adds what gRPC knew to an error that is a deadline alone.
func (c *cause) because(err error) error {
	if err == nil || c.text == "" || !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return explained{err, c.text}
}

// explained is an error with a better text.
type explained struct {
	error
	text string
}

// Error implements error.
func (e explained) Error() string { return e.text }

// Unwrap returns the error that is explained.
func (e explained) Unwrap() error { return e.error }

func note(ctx context.Context, err error) {
	c, ok := ctx.Value(causeKey{}).(*cause)
	if err == nil || !ok {
		return
	}
	if text := reason(status.Convert(err).Message()); text != "" {
		c.text = text
	}
}

// reason returns why there is no connection, of what gRPC says, or "". The words
// of the dialer and of TLS are the last; before them every layer has its say.
func reason(text string) string {
	const refused, unknown = "remote error: tls: ", "authentication handshake failed: "
	text = strings.TrimRight(text, `"`)
	if i := strings.LastIndex(text, refused); i >= 0 {
		return "the server refuses our certificate: " + text[i+len(refused):]
	}
	if i := strings.LastIndex(text, unknown); i >= 0 {
		return "we refuse the server: " + text[i+len(unknown):]
	}
	if i := strings.LastIndex(text, "dial "); i >= 0 {
		return text[i:]
	}
	return ""
}

func noteUnary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := invoke(ctx, method, req, reply, cc, opts...)
	note(ctx, err)
	return err
}

func noteStream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	stream, err := open(ctx, desc, cc, method, opts...)
	note(ctx, err)
	return stream, err
}
