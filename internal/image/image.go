// Package image writes container images as archives, without an engine: static
// programs and a few files need no more than a tar of one layer.
//
// It must never run what it packs, nor take anything from a registry. Its
// invariant: the same files make the same bytes.
package image

import (
	"archive/tar"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
)

// Image is what to pack.
type Image struct {
	Name       string // with its tag, such as registry.example/ovl:1.0
	Arch       string // as Go spells it
	Entrypoint []string
	Env        []string
	Files      []File
}

// File is one file of an image: a copy of one here, or a symbolic link.
type File struct {
	Path string // in the image, absolute
	From string // here; symbolic links are followed
	Link string // where it points; then From is empty
}

// descriptor names a blob of an OCI layout.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// The media types of the OCI image specification.
const (
	typeIndex    = "application/vnd.oci.image.index.v1+json"
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeLayer    = "application/vnd.oci.image.layer.v1.tar"
)

// Write writes the image as `docker save` does: an OCI layout, with the
// manifest.json that older engines look for.
func (i Image) Write(w io.Writer) error {
	layer, err := i.layer()
	if err != nil {
		return err
	}
	a := archive{tar: tar.NewWriter(w)}
	layerAt := a.blob(typeLayer, layer)
	config := a.json(typeConfig, map[string]any{
		"architecture": i.Arch, "os": "linux",
		"config": map[string]any{"Entrypoint": i.Entrypoint, "Env": i.Env},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{layerAt.Digest}},
	})
	manifest := a.json(typeManifest, map[string]any{
		"schemaVersion": 2, "mediaType": typeManifest, "config": config, "layers": []descriptor{layerAt},
	})
	manifest.Annotations = map[string]string{
		"io.containerd.image.name": i.Name, "org.opencontainers.image.ref.name": i.Name[strings.LastIndex(i.Name, ":")+1:],
	}
	a.file("oci-layout", encode(map[string]any{"imageLayoutVersion": "1.0.0"}))
	a.file("index.json", encode(map[string]any{"schemaVersion": 2, "mediaType": typeIndex, "manifests": []descriptor{manifest}}))
	a.file("manifest.json", encode([]any{map[string]any{
		"Config": blobPath(config.Digest), "RepoTags": []string{i.Name}, "Layers": []string{blobPath(layerAt.Digest)},
	}}))
	if a.err != nil {
		return fmt.Errorf("write image %s: %w", i.Name, a.err)
	}
	return a.tar.Close()
}

// layer returns the tar of the files, each with the directories above it.
func (i Image) layer() ([]byte, error) {
	var b bytes.Buffer
	a := archive{tar: tar.NewWriter(&b)}
	files := slices.SortedFunc(slices.Values(i.Files), func(x, y File) int { return cmp.Compare(x.Path, y.Path) })
	made := map[string]bool{"/": true}
	for _, d := range []string{"/tmp", "/etc", "/run"} {
		a.dirs(made, d)
	}
	for _, f := range files {
		a.dirs(made, path.Dir(f.Path))
		name := strings.TrimPrefix(f.Path, "/")
		if f.Link != "" {
			a.header(tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: f.Link, Mode: 0o777})
			continue
		}
		content, err := os.ReadFile(f.From)
		if err != nil {
			return nil, fmt.Errorf("pack image: %w", err)
		}
		a.header(tar.Header{Name: name, Mode: 0o755, Size: int64(len(content))})
		a.write(content)
	}
	if a.err != nil {
		return nil, fmt.Errorf("pack image: %w", a.err)
	}
	return b.Bytes(), a.tar.Close()
}

// archive is a tar that is being written; the first error stays.
type archive struct {
	tar *tar.Writer
	err error
}

func (a *archive) header(h tar.Header) {
	if a.err == nil {
		a.err = a.tar.WriteHeader(&h)
	}
}

func (a *archive) write(b []byte) {
	if a.err == nil {
		_, a.err = a.tar.Write(b)
	}
}

func (a *archive) file(name string, content []byte) {
	a.header(tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))})
	a.write(content)
}

// dirs writes the directories on the way to dir that are not made yet.
func (a *archive) dirs(made map[string]bool, dir string) {
	if made[dir] {
		return
	}
	a.dirs(made, path.Dir(dir))
	made[dir] = true
	mode := int64(0o755)
	if dir == "/tmp" {
		mode = 0o1777
	}
	a.header(tar.Header{Typeflag: tar.TypeDir, Name: strings.TrimPrefix(dir, "/") + "/", Mode: mode})
}

func (a *archive) blob(mediaType string, content []byte) descriptor {
	sum := sha256.Sum256(content)
	d := descriptor{MediaType: mediaType, Digest: "sha256:" + hex.EncodeToString(sum[:]), Size: len(content)}
	a.file(blobPath(d.Digest), content)
	return d
}

func (a *archive) json(mediaType string, v any) descriptor { return a.blob(mediaType, encode(v)) }

func blobPath(digest string) string { return "blobs/" + strings.Replace(digest, ":", "/", 1) }

// encode cannot fail: it is given maps of strings.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}
