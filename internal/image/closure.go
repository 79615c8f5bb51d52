package image

import (
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// libraryDirs is where the loader looks, besides what a program itself names:
// those of Debian's and Fedora's layouts (ld.so(8)).
var libraryDirs = []string{
	"/usr/lib/x86_64-linux-gnu", "/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/lib/aarch64-linux-gnu",
	"/usr/lib64", "/lib64", "/usr/lib", "/lib",
}

// Closure returns the programs at paths with the libraries and the loader that
// they need, at the places where they are here.
func Closure(paths ...string) ([]File, error) {
	var files []File
	seen := map[string]bool{}
	for len(paths) > 0 {
		p := paths[0]
		paths = paths[1:]
		if seen[p] {
			continue
		}
		seen[p] = true
		files = append(files, File{Path: p, From: p})
		needed, err := needs(p)
		if err != nil {
			return nil, fmt.Errorf("find libraries of %s: %w", p, err)
		}
		paths = append(paths, needed...)
	}
	return files, nil
}

// needs returns the paths of what the program or library at path is linked with.
func needs(path string) ([]string, error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var found []string
	if interp := f.Section(".interp"); interp != nil {
		loader, err := interp.Data()
		if err != nil {
			return nil, err
		}
		found = append(found, string(loader[:len(loader)-1])) // it ends with a zero
	}
	names, err := f.ImportedLibraries()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		i := slices.IndexFunc(libraryDirs, func(d string) bool {
			_, err := os.Stat(filepath.Join(d, name))
			return err == nil
		})
		if i < 0 {
			return nil, fmt.Errorf("no %s in %v", name, libraryDirs)
		}
		found = append(found, filepath.Join(libraryDirs[i], name))
	}
	return found, nil
}
