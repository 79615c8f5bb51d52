// Package bench measures what docs/benchmarks.md reports: real agents, a real
// store and the real kernel, in namespaces of their own, beside what the plain
// kernel takes for the same in the same run. Nothing here asserts a time.
package bench
