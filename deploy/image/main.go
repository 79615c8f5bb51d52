// Command image packs ovl's programs into a container image, as an archive that
// `docker load`, `podman load` and `ctr images import` take. With them go the
// iptables of this machine and what they are linked with: nothing else of the
// agent's comes from outside its binary.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/ovlnet/ovl/internal/image"
)

func main() {
	name := flag.String("name", "ovl:dev", "name of the image, with its tag")
	bin := flag.String("bin", "bin", "directory of ovl's programs")
	out := flag.String("o", "bin/ovl-image.tar", "where to write it")
	flag.Parse()
	if err := pack(*name, *bin, *out); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// programs are in /usr/local/bin of the image.
var programs = []string{"ovl-agent", "ovl-cni", "ovl-controller", "ovlctl"}

func pack(name, bin, out string) error {
	i := image.Image{
		Name: name, Arch: runtime.GOARCH, Entrypoint: []string{"/usr/local/bin/ovl-agent"},
		Env: []string{"PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		// Where runtimes say that namespaces are.
		Files: []image.File{{Path: "/var/run", Link: "/run"}},
	}
	for _, p := range programs {
		i.Files = append(i.Files, image.File{Path: "/usr/local/bin/" + p, From: filepath.Join(bin, p)})
	}
	tools, err := iptables()
	if err != nil {
		return err
	}
	i.Files = append(i.Files, tools...)
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	if err := i.Write(f); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}
