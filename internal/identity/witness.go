package identity

import (
	"crypto"
	"crypto/sha256"
	"sync"
)

// witnessed is how many verdicts a Witness keeps of each of its two generations.
const witnessed = 1 << 17

// Witness remembers which seals hold, for those who read the same records again
// and again: a verification costs some twenty times what decoding a record does. The
// zero value is ready; it is safe for concurrent use.
type Witness struct {
	mu         sync.Mutex
	young, old map[[sha256.Size]byte]error
}

// Check is [CheckSeal], each verdict found out once. key is the public key's print.
func (w *Witness) Check(public crypto.PublicKey, key Print, at Place, sealed []byte) error {
	digest := at.digest(sealed)
	id := sha256.Sum256(append(digest[:], key[:]...))
	w.mu.Lock()
	verdict, known := w.young[id]
	if !known {
		verdict, known = w.old[id]
	}
	w.mu.Unlock()
	if !known {
		verdict = CheckSeal(public, at, sealed)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.young) >= witnessed {
		w.young, w.old = nil, w.young
	}
	if w.young == nil {
		w.young = map[[sha256.Size]byte]error{}
	}
	w.young[id] = verdict
	return verdict
}
