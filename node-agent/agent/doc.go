// Package agent is the loop of one host: whenever anything happens it reads
// what may have changed, plans, diffs and applies, and tells everybody who
// waits what came of it.
//
// It must never act on an event's content: an event only wakes it and says
// where to look. Its invariant is that after every pass without failures the
// kernel holds exactly what the plan wants, save that nothing which another
// host may still need is deleted on evidence older than this process (see
// unproven.go).
package agent
