package admit

import (
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"strings"
)

// The number of items on a page of a list.
const (
	DefaultPageSize = 500
	MaxPageSize     = 1000
)

// A token is the base64url of: version, CRC-32 of the scope, CRC-32 of the
// rest, the key after which the next page begins. The checksums catch mistakes
// (a token of another list, a truncated one), not malice: a forged token only
// begins the list elsewhere.
const (
	tokenVersion = 1
	tokenHeader  = 9
	maxTokenLen  = 1024
)

// PageToken returns the token for the page after key, in the list that scope
// (the method and its filters) describes.
func PageToken(scope, key string) string {
	b := []byte{tokenVersion}
	b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE([]byte(scope)))
	b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE([]byte(key)))
	return base64.RawURLEncoding.EncodeToString(append(b, key...))
}

// Page returns the number of items wanted and the key after which they begin
// ("" = at the start), and what is wrong with the request.
func Page(scope string, size int32, token string) (items int, after string, vs []Violation) {
	var bad list
	items = int(size)
	switch {
	case size == 0:
		items = DefaultPageSize
	case size < 0 || size > MaxPageSize:
		bad.addf("page_size", "%d is out of range: use 1 to %d, or 0 for %d", size, MaxPageSize, DefaultPageSize)
	}
	if token != "" {
		after = parseToken(&bad, scope, token)
	}
	return items, after, bad
}

func parseToken(vs *list, scope, token string) string {
	const field = "page_token"
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if len(token) > maxTokenLen || strings.ContainsAny(token, "\r\n") || err != nil || len(b) <= tokenHeader || b[0] != tokenVersion ||
		binary.BigEndian.Uint32(b[5:]) != crc32.ChecksumIEEE(b[tokenHeader:]) {
		vs.addf(field, "is not one that this list gave: begin again without")
		return ""
	}
	if binary.BigEndian.Uint32(b[1:]) != crc32.ChecksumIEEE([]byte(scope)) {
		vs.addf(field, "is of another list or of other filters: repeat the filters of the first page, or begin again without")
		return ""
	}
	return string(b[tokenHeader:])
}
