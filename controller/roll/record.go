package roll

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/identity"
	"github.com/ovlnet/ovl/internal/store"
)

// The prefixes and keys of the records. Controllers alone may read or write them.
const (
	MembersPrefix = store.Root + "members/"   // <role>/<name>
	NamesPrefix   = store.Root + "hostnames/" // <name>: which host joined under it
	TokensPrefix  = store.Root + "tokens/"    // <id>
	CAKey         = store.Root + "ca"         // fingerprint of the cluster's CA
)

// maxRecord bounds a record, in bytes.
const maxRecord = 4 << 10

// MemberKey is the key of a member's record.
func MemberKey(who identity.Who) string { return MembersPrefix + string(who.Role) + "/" + who.Name }

// NameKey is the key that reserves a host's name.
func NameKey(name string) string { return NamesPrefix + name }

// TokenKey is the key of a token.
func TokenKey(id string) string { return TokensPrefix + id }

// Member is one who has joined.
type Member struct {
	Who      identity.Who
	Name     string         // of a host, beside its ID
	Key      identity.Print // of its certificates
	Joined   time.Time
	Token    string // the ID of the token that let it in
	Revision int64
}

type memberRecord struct {
	Name   string    `json:"name,omitempty"`
	Key    string    `json:"key"`
	Joined time.Time `json:"joined"`
	Token  string    `json:"token,omitempty"`
}

// EncodeMember returns the value of a member's record.
func EncodeMember(m Member) ([]byte, error) {
	return encode(memberRecord{Name: m.Name, Key: m.Key.String(), Joined: m.Joined.UTC(), Token: m.Token})
}

// DecodeMember returns the member in a record.
func DecodeMember(r store.Record) (Member, error) {
	who, err := parseMemberKey(r.Key)
	if err != nil {
		return Member{}, err
	}
	var rec memberRecord
	if err := decode(r, &rec); err != nil {
		return Member{}, err
	}
	m := Member{Who: who, Name: rec.Name, Joined: rec.Joined, Token: rec.Token, Revision: r.ModRev}
	if m.Key, err = identity.ParsePrint(rec.Key); err == nil && who.Role == identity.Host {
		err = cluster.CheckName(m.Name)
	}
	if err != nil {
		return Member{}, fmt.Errorf("decode %s: %w", r.Key, err)
	}
	return m, nil
}

func parseMemberKey(key string) (identity.Who, error) {
	rest, ok := strings.CutPrefix(key, MembersPrefix)
	role, name, found := strings.Cut(rest, "/")
	who := identity.Who{Role: identity.Role(role), Name: name}
	if !ok || !found || who.Check() != nil {
		return identity.Who{}, fmt.Errorf("parse key %.160q: not a key of a member", key)
	}
	return who, nil
}

// EncodeName returns the value that reserves a host's name.
func EncodeName(id cluster.HostID) ([]byte, error) { return encode(nameRecord{Host: id}) }

type nameRecord struct {
	Host cluster.HostID `json:"host"`
}

// DecodeName returns the host that has a name.
func DecodeName(r store.Record) (cluster.HostID, error) {
	var rec nameRecord
	if err := decode(r, &rec); err != nil {
		return "", err
	}
	return cluster.ParseHostID(string(rec.Host))
}

// Token is one as the store has it: all but its secret.
type Token struct {
	ID       string
	Hash     identity.Print // of the secret
	Role     identity.Role
	Name     string // of who may join with it; empty: any
	Uses     uint32 // 0: without bound
	Used     uint32
	Created  time.Time
	Expires  time.Time
	Creator  string
	Revision int64
}

type tokenRecord struct {
	Hash    string        `json:"hash"`
	Role    identity.Role `json:"role"`
	Name    string        `json:"name,omitempty"`
	Uses    uint32        `json:"uses,omitempty"`
	Used    uint32        `json:"used,omitempty"`
	Created time.Time     `json:"created"`
	Expires time.Time     `json:"expires"`
	Creator string        `json:"creator,omitempty"`
}

// EncodeToken returns the value of a token's record.
func EncodeToken(t Token) ([]byte, error) {
	return encode(tokenRecord{
		Hash: t.Hash.String(), Role: t.Role, Name: t.Name, Uses: t.Uses, Used: t.Used,
		Created: t.Created.UTC(), Expires: t.Expires.UTC(), Creator: t.Creator,
	})
}

// DecodeToken returns the token in a record.
func DecodeToken(r store.Record) (Token, error) {
	id, ok := strings.CutPrefix(r.Key, TokensPrefix)
	if !ok || identity.CheckTokenID(id) != nil {
		return Token{}, fmt.Errorf("parse key %.160q: not a key of a token", r.Key)
	}
	var rec tokenRecord
	if err := decode(r, &rec); err != nil {
		return Token{}, err
	}
	t := Token{
		ID: id, Role: rec.Role, Name: rec.Name, Uses: rec.Uses, Used: rec.Used,
		Created: rec.Created, Expires: rec.Expires, Creator: rec.Creator, Revision: r.ModRev,
	}
	var err error
	if t.Hash, err = identity.ParsePrint(rec.Hash); err == nil {
		err = t.check()
	}
	if err != nil {
		return Token{}, fmt.Errorf("decode %s: %w", r.Key, err)
	}
	return t, nil
}

// errRole is a token that would let in a controller, who has the CA's key and
// needs no token.
var errRole = errors.New("role: want host, admin, operator or viewer")

func (t Token) check() error {
	if r, err := identity.ParseRole(string(t.Role)); err != nil || r == identity.Controller {
		return errRole
	}
	if t.Name == "" {
		return nil
	}
	return cluster.CheckName(t.Name)
}

func encode(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err == nil && len(b) > maxRecord {
		err = fmt.Errorf("%d bytes, want at most %d", len(b), maxRecord)
	}
	if err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	return b, nil
}

func decode(r store.Record, v any) error {
	if len(r.Value) > maxRecord {
		return fmt.Errorf("decode %.160q: %d bytes, want at most %d", r.Key, len(r.Value), maxRecord)
	}
	if err := json.Unmarshal(r.Value, v); err != nil {
		return fmt.Errorf("decode %.160q: %w", r.Key, err)
	}
	return nil
}

type caRecord struct {
	Print string `json:"fingerprint"`
}

// ClaimCA returns the fingerprint of the CA that the controllers of a store have
// in common; the first to come says which that is.
func ClaimCA(ctx context.Context, kv store.KV, own identity.Print) (identity.Print, error) {
	value, err := encode(caRecord{Print: own.String()})
	if err != nil {
		return identity.Print{}, err
	}
	if _, err = kv.Txn(ctx, []store.Cond{store.Absent(CAKey)}, []store.Write{store.Put(CAKey, value, 0)}); !errors.Is(err, store.ErrConflict) {
		return own, err
	}
	page, err := kv.Range(ctx, CAKey)
	if err != nil {
		return identity.Print{}, err
	}
	r, _ := Exact(page, CAKey)
	var rec caRecord
	if err := decode(r, &rec); err != nil {
		return identity.Print{}, err
	}
	return identity.ParsePrint(rec.Print)
}
