package main

import "fmt"

// pageSize is what we ask for at once: the most that a controller gives.
const pageSize = 1000

// collect gathers all pages of a list. A token that does not change would
// have us ask for ever, so it is an error.
func collect[T any](page func(token string) (items []T, next string, err error)) ([]T, error) {
	var all []T
	token := ""
	for {
		items, next, err := page(token)
		if err != nil {
			return nil, err
		}
		all = append(all, items...)
		if next == "" {
			return all, nil
		}
		if next == token {
			return nil, fmt.Errorf("read list: the controller gave the same page token twice")
		}
		token = next
	}
}
