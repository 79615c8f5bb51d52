package etcd

import (
	"context"
	"errors"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/identity"
	"github.com/ovlnet/ovl/internal/store"
)

// Users are those of an etcd that is not the controller's: it knows people by the
// common names of their certificates, and what they may by ranges of keys. Only one
// with the role root may call these, unless etcd does not ask at all yet.
type Users struct{ store *Store }

// Users returns the users of this etcd.
func (s *Store) Users() Users { return Users{s} }

const (
	// hostsRole is what all hosts may; each has a role of its user's name too.
	hostsRole = "ovl-hosts"
	// rootRole is etcd's own: it may do everything.
	rootRole = "root"

	toRead  = clientv3.PermissionType(clientv3.PermRead)
	toWrite = clientv3.PermissionType(clientv3.PermReadWrite)
)

// userOf is the name under which etcd knows a host.
func userOf(id cluster.HostID) string {
	return identity.Who{Role: identity.Host, Name: string(id)}.CommonName()
}

// Asks reports whether etcd asks who reads and writes (etcdctl auth enable).
func (u Users) Asks(ctx context.Context) (bool, error) {
	call, why, cancel := u.store.begin(ctx)
	defer cancel()
	resp, err := u.store.client.AuthStatus(call)
	if err != nil {
		return false, wrap(ctx, "read whether etcd asks who calls", why.because(err))
	}
	return resp.Enabled, nil
}

// Prepare makes what all hosts may, and, as long as etcd does not ask who calls, the
// user of this controller: afterwards only root could.
func (u Users) Prepare(ctx context.Context, self string) error {
	asks, err := u.Asks(ctx)
	if err != nil {
		return err
	}
	call, why, cancel := u.store.begin(ctx)
	defer cancel()
	c := u.store.client
	if !asks {
		err = errors.Join(
			made(c.RoleAdd(call, rootRole)), made(c.UserAddWithOptions(call, self, "", &clientv3.UserAddOptions{NoPassword: true})),
			made(c.UserGrantRole(call, self, rootRole)),
		)
	}
	if err == nil {
		err = u.ensureRole(call, hostsRole, append(grants(toRead, without(store.Readable(), store.Shared())...), grants(toWrite, store.Shared()...)...))
	}
	return wrap(ctx, "make the rights of hosts in etcd", why.because(err))
}

func without(all, some []string) []string {
	return slices.DeleteFunc(all, func(s string) bool { return slices.Contains(some, s) })
}

// grant is a permission of a role.
type grant struct {
	key, end string
	kind     clientv3.PermissionType
}

// grants returns permissions for keys and for prefixes, which end in a slash. What is
// read whole is asked for as a prefix too, as every read of ours is.
func grants(kind clientv3.PermissionType, keys ...string) []grant {
	var all []grant
	for _, k := range keys {
		g := grant{key: k, kind: kind}
		if strings.HasSuffix(k, "/") || kind == toRead {
			g.end = clientv3.GetPrefixRangeEnd(k)
		}
		all = append(all, g)
	}
	return all
}

// ensureRole makes a role with those permissions and no others. What is so already
// is not written: each change makes etcd check what is under way anew.
func (u Users) ensureRole(ctx context.Context, name string, want []grant) error {
	c := u.store.client
	role, err := c.RoleGet(ctx, name)
	if errors.Is(err, rpctypes.ErrRoleNotFound) {
		if err = made(c.RoleAdd(ctx, name)); err == nil {
			role = &clientv3.AuthRoleGetResponse{}
		}
	}
	if err != nil {
		return err
	}
	for _, p := range role.Perm {
		have := grant{string(p.Key), string(p.RangeEnd), clientv3.PermissionType(p.PermType)}
		if i := slices.Index(want, have); i >= 0 {
			want = slices.Delete(want, i, i+1)
			continue
		}
		if _, err := c.RoleRevokePermission(ctx, name, have.key, have.end); err != nil {
			return err
		}
	}
	for _, g := range want {
		if _, err := c.RoleGrantPermission(ctx, name, g.key, g.end, g.kind); err != nil {
			return err
		}
	}
	return nil
}

// Admit makes a host's user, if it is not there already: it writes what names the
// host first, and what hosts sign.
func (u Users) Admit(ctx context.Context, id cluster.HostID) error {
	call, why, cancel := u.store.begin(ctx)
	defer cancel()
	return wrap(ctx, "let host into etcd", why.because(u.admit(call, id)))
}

func (u Users) admit(ctx context.Context, id cluster.HostID) error {
	c, name := u.store.client, userOf(id)
	if err := u.ensureRole(ctx, name, grants(toWrite, store.Own(id)...)); err != nil {
		return err
	}
	user, err := c.UserGet(ctx, name)
	if errors.Is(err, rpctypes.ErrUserNotFound) {
		if err = made(c.UserAddWithOptions(ctx, name, "", &clientv3.UserAddOptions{NoPassword: true})); err == nil {
			user = &clientv3.AuthUserGetResponse{}
		}
	}
	if err != nil {
		return err
	}
	for _, role := range []string{hostsRole, name} {
		if slices.Contains(user.Roles, role) {
			continue
		}
		if _, err := c.UserGrantRole(ctx, name, role); err != nil {
			return err
		}
	}
	return nil
}

// Expel removes a host's user: its certificate opens nothing from then on.
func (u Users) Expel(ctx context.Context, id cluster.HostID) error {
	call, why, cancel := u.store.begin(ctx)
	defer cancel()
	_, err := u.store.client.UserDelete(call, userOf(id))
	if err == nil || errors.Is(err, rpctypes.ErrUserNotFound) {
		_, err = u.store.client.RoleDelete(call, userOf(id))
	}
	if errors.Is(err, rpctypes.ErrRoleNotFound) {
		err = nil
	}
	return wrap(ctx, "shut host out of etcd", why.because(err))
}

// Hosts returns the hosts that have users.
func (u Users) Hosts(ctx context.Context) ([]cluster.HostID, error) {
	call, why, cancel := u.store.begin(ctx)
	defer cancel()
	resp, err := u.store.client.UserList(call)
	if err != nil {
		return nil, wrap(ctx, "list etcd's users", why.because(err))
	}
	var all []cluster.HostID
	for _, name := range resp.Users {
		rest, ok := strings.CutPrefix(name, userOf(""))
		if id, err := cluster.ParseHostID(rest); ok && err == nil {
			all = append(all, id)
		}
	}
	return all, nil
}

// made is the error of making something, if it is not that it exists.
func made[T any](_ T, err error) error {
	if errors.Is(err, rpctypes.ErrUserAlreadyExist) || errors.Is(err, rpctypes.ErrRoleAlreadyExist) {
		return nil
	}
	return err
}
