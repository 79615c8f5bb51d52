package identity

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"errors"
	"strings"
)

// Token lets one in who is no member yet. Its text is
// ovl1-<id>-<secret>-<fingerprint of the CA>, each part in base32 (RFC 4648)
// of lower case: one word that a double click selects and that fits on a line.
type Token struct {
	ID     string // names it in the store and in lists; no secret
	Secret string
	CA     Print
}

const (
	tokenKind   = "ovl1"
	idBytes     = 5
	secretBytes = 16
	maxToken    = 128
)

//nolint:gochecknoglobals // an alphabet never changes
var words = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// NewToken makes a token of random parts for a CA.
func NewToken(ca Print) Token {
	var b [idBytes + secretBytes]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return Token{ID: words.EncodeToString(b[:idBytes]), Secret: words.EncodeToString(b[idBytes:]), CA: ca}
}

// String returns the text that a person hands on. It holds the secret.
func (t Token) String() string {
	return strings.Join([]string{tokenKind, t.ID, t.Secret, words.EncodeToString(t.CA[:])}, "-")
}

// errToken says no more than the shape: part of a text may be a secret.
var errToken = errors.New("parse token: want the whole text that ovlctl token create printed: ovl1-…")

// ParseToken reads the text of a token. The error never quotes it.
func ParseToken(text string) (Token, error) {
	text = strings.TrimSpace(text)
	if len(text) > maxToken {
		return Token{}, errToken
	}
	parts := strings.Split(text, "-")
	if len(parts) != 4 || parts[0] != tokenKind {
		return Token{}, errToken
	}
	ca, ok := decode(parts[3], len(Print{}))
	if !ok || CheckTokenID(parts[1]) != nil || CheckSecret(parts[2]) != nil {
		return Token{}, errToken
	}
	return Token{ID: parts[1], Secret: parts[2], CA: Print(ca)}, nil
}

// CheckTokenID reports whether s can be the ID of a token.
func CheckTokenID(s string) error {
	if _, ok := decode(s, idBytes); !ok {
		return errors.New("ID of a token: want 8 of a-z and 2-7")
	}
	return nil
}

// CheckSecret reports whether s can be the secret of a token.
func CheckSecret(s string) error {
	if _, ok := decode(s, secretBytes); !ok {
		return errors.New("secret of a token: want 26 of a-z and 2-7")
	}
	return nil
}

// decode returns what s encodes, if that is n bytes in their one spelling.
func decode(s string, n int) ([]byte, bool) {
	if len(s) != words.EncodedLen(n) {
		return nil, false
	}
	b, err := words.DecodeString(s)
	return b, err == nil && words.EncodeToString(b) == s
}

// Hash is what is kept of a token's secret. The secret is random and long, so
// that one round of SHA-256 is as good as any slower hash.
func Hash(secret string) Print { return sha256.Sum256([]byte(secret)) }

// Matches reports whether the hash is that of the secret, in constant time.
func Matches(hash Print, secret string) bool {
	got := Hash(secret)
	return subtle.ConstantTimeCompare(hash[:], got[:]) == 1
}
