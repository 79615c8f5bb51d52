package image

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// unpack returns the files of a tar, the targets of links, and nothing for
// directories.
func unpack(t *testing.T, b []byte) map[string]string {
	t.Helper()
	files := map[string]string{}
	r := tar.NewReader(bytes.NewReader(b))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[h.Name] = string(content) + h.Linkname
	}
}

func TestWrite(t *testing.T) {
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte("\x7fELF"), 0o700); err != nil {
		t.Fatal(err)
	}
	i := Image{
		Name: "registry.test:5000/ovl:1.0", Arch: "amd64", Entrypoint: []string{"/bin/ovl"},
		Files: []File{{Path: "/usr/bin/link", Link: "../../bin/ovl"}, {Path: "/bin/ovl", From: program}},
	}
	var b, again bytes.Buffer
	if err := i.Write(&b); err != nil {
		t.Fatal(err)
	}
	slices.Reverse(i.Files)
	if err := i.Write(&again); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Bytes(), again.Bytes()) {
		t.Error("the same files in another order make other bytes")
	}
	files := unpack(t, b.Bytes())
	for name, content := range files {
		if digest, ok := strings.CutPrefix(name, "blobs/sha256/"); ok {
			if sum := sha256.Sum256([]byte(content)); hex.EncodeToString(sum[:]) != digest {
				t.Errorf("%s is not what its name says", name)
			}
		}
	}
	var old []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	if err := json.Unmarshal([]byte(files["manifest.json"]), &old); err != nil {
		t.Fatal(err)
	}
	if len(old) != 1 || len(old[0].Layers) != 1 || !slices.Equal(old[0].RepoTags, []string{i.Name}) {
		t.Fatalf("manifest.json: %s", files["manifest.json"])
	}
	if !strings.Contains(files[old[0].Config], `"Entrypoint":["/bin/ovl"]`) {
		t.Errorf("configuration: %s", files[old[0].Config])
	}
	layer := unpack(t, []byte(files[old[0].Layers[0]]))
	if layer["bin/ovl"] != "\x7fELF" || layer["usr/bin/link"] != "../../bin/ovl" {
		t.Errorf("layer: %q", layer)
	}
	if !strings.Contains(files["index.json"], `"org.opencontainers.image.ref.name":"1.0"`) {
		t.Errorf("index.json: %s", files["index.json"])
	}
}

func TestClosure(t *testing.T) {
	files, err := Closure("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, filepath.Base(f.Path))
	}
	if !slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, "ld-") }) ||
		!slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, "libc.") }) {
		t.Errorf("what sh needs: %v, want the loader and libc", names)
	}
	if _, err := Closure("/nowhere"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a program that is not there: %v", err)
	}
}
