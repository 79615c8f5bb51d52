// Package wire translates between the protobuf messages of proto/ovl/v1 and
// the facts of internal/cluster, and does nothing else.
//
// It must never decide whether a value is allowed (controller/admit and the
// agent do that), do I/O or keep state. The invariant it keeps is that a fact
// which goes out through a function of this package comes back equal through
// its Parse counterpart, whatever the address family, and that Parse returns an
// error, never a half-filled fact, for text that is no address, prefix, MAC or
// ID.
package wire
