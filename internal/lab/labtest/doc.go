// Package labtest runs a test's commands in a lab of the binaries that the
// tree builds.
//
// It must never ask ovl whether ovl works where the kernel can be asked: what
// it reads of links, addresses and rules comes from ip, bridge and
// iptables-save. Its invariant: a lab ends with its test, also when the test
// binary is killed.
package labtest
