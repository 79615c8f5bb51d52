package api

import (
	"cmp"
	"slices"
	"strings"

	"github.com/ovlnet/ovl/controller/admit"
)

// paged is what all requests for lists have in common.
type paged interface {
	GetPageSize() int32
	GetPageToken() string
}

// cursor says which part of a list a request wants.
type cursor struct {
	scope string
	items int
	after string
}

// newCursor reads the request for a page of a list; filters are part of what
// its tokens belong to.
func newCursor(list string, req paged, filters ...string) (cursor, []admit.Violation) {
	scope := list + "\x00" + strings.Join(filters, "\x00")
	items, after, vs := admit.Page(scope, req.GetPageSize(), req.GetPageToken())
	return cursor{scope: scope, items: items, after: after}, vs
}

// take returns the wanted part of all, sorted by order, and the token for what
// follows; empty at the end.
func take[T any](c cursor, all []T, order func(T) string) ([]T, string) {
	from := 0
	if c.after != "" {
		i, found := slices.BinarySearchFunc(all, c.after, func(v T, after string) int { return cmp.Compare(order(v), after) })
		if found {
			i++
		}
		from = i
	}
	page := all[from:]
	if len(page) <= c.items {
		return page, ""
	}
	page = page[:c.items]
	return page, admit.PageToken(c.scope, order(page[len(page)-1]))
}
