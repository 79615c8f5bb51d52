package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ovlnet/ovl/internal/identity"
)

// explain turns the error of a call into one line with an exit code: what was
// wanted, why it did not happen, what to do.
func (c *client) explain(what string, err error) error {
	if err == nil {
		return nil
	}
	s, ok := status.FromError(err)
	if !ok {
		return fmt.Errorf("%s: %w", what, err)
	}
	switch s.Code() {
	case codes.Unavailable, codes.DeadlineExceeded:
		return c.unreachable(what, s)
	case codes.Unauthenticated:
		return codef(exitFailed, "%s: %s%s", what, strings.TrimPrefix(message(s), what+": "), c.wayBack())
	case codes.Unimplemented:
		return codef(exitFailed, "%s: %s does not know this call; is its version older than this ovlctl?", what, c.who)
	default:
		// Servers too say what they were doing, often in the same words.
		return codef(codeOf(s.Code()), "%s: %s", what, strings.TrimPrefix(message(s), what+": "))
	}
}

// wayBack says how one gets in again whose certificate is refused.
func (c *client) wayBack() string {
	if c.own == nil {
		return ""
	}
	who, err := c.own.Pair().Who()
	switch {
	case err != nil || who.Role == identity.Host || who.Role == identity.Controller:
		return ""
	case who.Name == identity.Local:
		return ": the controller keeps its own identity/admin.pem fresh, and this is an old copy"
	}
	return fmt.Sprintf(": an admin makes a token (ovlctl token create --role %s --user %s), and with that you log in again (ovlctl login)", who.Role, who.Name)
}

// codeOf maps the status of a call to an exit code.
func codeOf(c codes.Code) int {
	switch c {
	case codes.OK:
		return exitDone
	case codes.NotFound:
		return exitNotFound
	case codes.AlreadyExists, codes.FailedPrecondition, codes.Aborted:
		return exitConflict
	case codes.InvalidArgument:
		return exitUsage
	case codes.Unavailable, codes.DeadlineExceeded:
		return exitUnreachable
	default:
		return exitFailed
	}
}

// message joins what the server says with every field that it refused.
func message(s *status.Status) string {
	var fields []string
	for _, d := range s.Details() {
		if bad, ok := d.(*errdetails.BadRequest); ok {
			for _, v := range bad.GetFieldViolations() {
				fields = append(fields, v.GetField()+": "+v.GetDescription())
			}
		}
	}
	if len(fields) > 0 {
		return strings.Join(fields, "; ")
	}
	return s.Message()
}

// unreachable says who did not answer, and why as far as the dialer saw it.
func (c *client) unreachable(what string, s *status.Status) error {
	dial := c.dialError()
	switch {
	case identity.FaultOf(dial) == identity.WrongCA:
		return codef(exitFailed, "%s: %s is not taken for one: %w: either the cluster has changed its CA since you last used it, or something else answers there: log in again with a token (ovlctl login)", what, c.who, dial)
	case s.Code() == codes.DeadlineExceeded && dial == nil:
		return codef(exitUnreachable, "%s: no answer from %s in time; give it longer with --timeout", what, c.who)
	case dial == nil:
		return codef(exitUnreachable, "%s: %s: %s", what, c.who, s.Message())
	case c.local && (errors.Is(dial, fs.ErrNotExist) || errors.Is(dial, syscall.ECONNREFUSED)):
		return codef(exitUnreachable, "%s: no agent on this host at %s: is ovl-agent running? (--socket)", what, c.address)
	case c.local && errors.Is(dial, fs.ErrPermission):
		return codef(exitUnreachable, "%s: %s: permission denied: run it as root", what, c.address)
	case c.local:
		return codef(exitUnreachable, "%s: no agent on this host at %s: %w (--socket)", what, c.address, dial)
	default:
		return codef(exitUnreachable, "%s: no controller at %s: %w; is ovl-controller running? (--controller)", what, c.address, cause(dial))
	}
}

// cause drops net's "dial tcp ADDRESS" in front of the reason.
func cause(err error) error {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno
	}
	return err
}
