package mem

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ovlnet/ovl/internal/store"
)

// What an etcd with its default settings refuses, this store refuses.
const (
	maxOps     = 128              // --max-txn-ops
	maxRequest = 1536 * (1 << 10) // --max-request-bytes
)

// checkTxn reports what makes a transaction malformed, whatever the state.
func checkTxn(conds []store.Cond, writes []store.Write) error {
	if n := max(len(conds), len(writes)); n > maxOps {
		return fmt.Errorf("%d operations: at most %d in a transaction", n, maxOps)
	}
	for _, c := range conds {
		if c.Key == "" && !c.Prefix {
			return errors.New("empty key")
		}
	}
	puts := map[string]bool{}
	size := 0
	for _, w := range writes {
		if w.Key == "" && !w.Prefix {
			return errors.New("empty key")
		}
		size += len(w.Key) + len(w.Value)
		if w.Delete {
			continue
		}
		if puts[w.Key] {
			return fmt.Errorf("key %s: written twice in a transaction", w.Key)
		}
		puts[w.Key] = true
	}
	if size > maxRequest {
		return fmt.Errorf("%d bytes: at most %d in a transaction", size, maxRequest)
	}
	return checkOverlap(puts, writes)
}

// checkOverlap refuses to put and delete one key: the outcome would be a matter
// of order.
func checkOverlap(puts map[string]bool, writes []store.Write) error {
	for _, w := range writes {
		if !w.Delete {
			continue
		}
		for key := range puts {
			if key == w.Key || w.Prefix && strings.HasPrefix(key, w.Key) {
				return fmt.Errorf("key %s: written and deleted in a transaction", key)
			}
		}
	}
	return nil
}
