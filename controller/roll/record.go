package roll

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
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
	CAKey         = store.CAKey               // which CAs the cluster trusts
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

	// Trusts and Issuer are the CAs that it trusts, and the one that issued what it
	// shows, as it said last; see [Member.Followed].
	Trusts []identity.Print
	Issuer identity.Print
	Said   time.Time
}

// Followed reports whether a member is ready for the next phase: it trusts the CA
// that came last and, once that one issues, has a certificate of it.
func (m Member) Followed(a identity.Authorities) bool {
	return slices.Contains(m.Trusts, a.Newest()) && (a.Phase != identity.Issue || m.Issuer == a.Issuer())
}

type memberRecord struct {
	Name   string    `json:"name,omitempty"`
	Key    string    `json:"key"`
	Joined time.Time `json:"joined"`
	Token  string    `json:"token,omitempty"`
	Trusts []string  `json:"trusts,omitempty"`
	Issuer string    `json:"issuer,omitempty"`
	Said   time.Time `json:"said,omitzero"`
}

// EncodeMember returns the value of a member's record.
func EncodeMember(m Member) ([]byte, error) {
	rec := memberRecord{Name: m.Name, Key: m.Key.String(), Joined: m.Joined.UTC(), Token: m.Token}
	if len(m.Trusts) > 0 {
		rec.Trusts, rec.Issuer, rec.Said = identity.FormatPrints(m.Trusts), m.Issuer.String(), m.Said.UTC()
	}
	return encode(rec)
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
	m := Member{Who: who, Name: rec.Name, Joined: rec.Joined, Token: rec.Token, Revision: r.ModRev, Said: rec.Said}
	if m.Key, err = identity.ParsePrint(rec.Key); err == nil && who.Role == identity.Host {
		err = cluster.CheckName(m.Name)
	}
	if err == nil {
		err = m.readTrusts(rec)
	}
	if err != nil {
		return Member{}, fmt.Errorf("decode %s: %w", r.Key, err)
	}
	return m, nil
}

func (m *Member) readTrusts(rec memberRecord) (err error) {
	if m.Trusts, err = identity.ParsePrints(rec.Trusts); err == nil && rec.Issuer != "" {
		m.Issuer, err = identity.ParsePrint(rec.Issuer)
	}
	return err
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
	CA       identity.Print // which it names; zero: that of a cluster which never changed it
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
	CA      string        `json:"ca,omitempty"`
}

// EncodeToken returns the value of a token's record.
func EncodeToken(t Token) ([]byte, error) {
	rec := tokenRecord{
		Hash: t.Hash.String(), Role: t.Role, Name: t.Name, Uses: t.Uses, Used: t.Used,
		Created: t.Created.UTC(), Expires: t.Expires.UTC(), Creator: t.Creator,
	}
	if t.CA != (identity.Print{}) {
		rec.CA = t.CA.String()
	}
	return encode(rec)
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
	if err == nil && rec.CA != "" {
		t.CA, err = identity.ParsePrint(rec.CA)
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

// Authorities returns which CAs the cluster trusts, and the revision that says
// so; 0: nothing does yet.
func Authorities(ctx context.Context, kv store.KV) (identity.Authorities, int64, error) {
	r, ok, err := store.Get(ctx, kv, CAKey)
	if err != nil || !ok {
		return identity.Authorities{}, 0, err
	}
	a, err := identity.ParseAuthorities(r.Value)
	if err != nil {
		return identity.Authorities{}, 0, fmt.Errorf("decode %s: %w", CAKey, err)
	}
	return a, r.ModRev, nil
}
