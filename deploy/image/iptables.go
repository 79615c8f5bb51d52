package main

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"

	"github.com/ovlnet/ovl/internal/image"
)

// kinds are the programs that are all of iptables, each under the names by which
// the agent calls it, with what stands behind "iptables" in those.
var kinds = []struct {
	program, suffix string
	needed          bool
}{{"xtables-nft-multi", "", true}, {"xtables-legacy-multi", "-legacy", false}}

// iptables returns the iptables of this machine: programs, extensions, libraries.
func iptables() ([]image.File, error) {
	var links []image.File
	var roots []string
	for _, k := range kinds {
		path, err := exec.LookPath(k.program)
		if errors.Is(err, exec.ErrNotFound) && !k.needed {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("find iptables: %w: install the package iptables", err)
		}
		roots = append(roots, path)
		for _, family := range []string{"iptables", "ip6tables"} {
			for _, verb := range []string{"", "-save", "-restore"} {
				links = append(links, image.File{Path: "/usr/sbin/" + family + k.suffix + verb, Link: path})
			}
		}
	}
	for _, dir := range []string{"/usr/lib/*/xtables", "/usr/lib64/xtables", "/usr/lib/xtables"} {
		extensions, err := filepath.Glob(dir + "/lib*.so")
		if err != nil {
			return nil, err
		}
		roots = append(roots, extensions...)
	}
	files, err := image.Closure(roots...)
	return append(files, links...), err
}
