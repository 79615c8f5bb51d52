// Package gate lets calls in: it finds out who calls, by the certificate of the
// connection and the roll, and whether that role may call this method.
//
// It must never serve a method itself, nor let one through that its table does
// not name, but to admins. Its invariant: a handler runs only after a caller was
// found who may call it, or for Join, which has a token instead; and a refusal
// says what is wrong.
package gate
