// Package telemetry is how the ovl binaries are seen from outside: the logger,
// the build's version, the metrics (their names are in names.go) and the HTTP
// listener for metrics and health.
//
// It must never decide anything, import another room of ovl, or hold a global
// logger or registry: programs make one of each and pass it on. Its invariant:
// nothing that fails here stops forwarding or the control plane's work, but
// what the operator asked for and cannot have is an error at start.
package telemetry
