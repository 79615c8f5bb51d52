// Package engine speaks the few calls of Docker's API that the agent needs: which
// networks and containers there are, what they are called, and what happens to
// them.
//
// It must never be used while a call of the engine's own is being answered: the
// engine holds locks until it has the answer. The invariant: an answer is bounded
// and typed, or an error; what an engine of another version adds is ignored.
package engine
