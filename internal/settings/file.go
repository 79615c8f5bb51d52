package settings

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"go.yaml.in/yaml/v3"
)

// MaxFile bounds a settings file, in bytes.
const MaxFile = 1 << 20

// File is what a settings file says: values for keys, in the file's order.
type File struct {
	Name    string
	Entries []Entry
}

// Entry is one key of a [File]. A key given as a YAML list has a value for each
// element; any other key has exactly one.
type Entry struct {
	Key    string
	Line   int // counted from 1
	Values []string
	List   bool
}

// Get returns the entry of that key.
func (f File) Get(key string) (Entry, bool) {
	for _, e := range f.Entries {
		if e.Key == key {
			return e, true
		}
	}
	return Entry{}, false
}

// Parse reads a settings file: one YAML document, a mapping from the names of
// flags to plain values or lists of them. Values stay text, as they would be on
// the command line, so that "010" or "no" mean what the flag says and not what
// YAML does. The error is an [*Error] with the line. The name is for errors.
func Parse(name string, data []byte) (File, error) {
	f := File{Name: name}
	if len(data) > MaxFile {
		return File{}, f.errorf(0, "file is larger than %d bytes", MaxFile)
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return f, nil
	case err != nil:
		return File{}, f.errorf(0, "%w", err)
	}
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		return File{}, f.errorf(more.Line, "more than one YAML document: keep one")
	}
	return f.fill(doc)
}

func (f File) fill(doc yaml.Node) (File, error) {
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return File{}, f.errorf(doc.Line, "want settings such as 'log-level: debug', one a line")
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return f, nil // only comments
	}
	if root.Kind != yaml.MappingNode {
		return File{}, f.errorf(root.Line, "want settings such as 'log-level: debug', one a line")
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		e, err := f.entry(root.Content[i], root.Content[i+1])
		if err != nil {
			return File{}, err
		}
		if first, ok := f.Get(e.Key); ok {
			return File{}, f.errorf(e.Line, "key %q is already set in line %d: remove one of them", clip(e.Key), first.Line)
		}
		f.Entries = append(f.Entries, e)
	}
	return f, nil
}

func (f File) entry(key, value *yaml.Node) (Entry, error) {
	if key.Kind != yaml.ScalarNode || key.Value == "" {
		return Entry{}, f.errorf(key.Line, "a key must be the name of a flag")
	}
	e := Entry{Key: key.Value, Line: key.Line}
	values := []*yaml.Node{value}
	if value.Kind == yaml.SequenceNode {
		e.List, values = true, value.Content
	}
	for _, v := range values {
		// Aliases are refused along with mappings: a file of settings needs
		// neither, and an alias is how YAML grows without bound.
		if v.Kind != yaml.ScalarNode {
			return Entry{}, f.errorf(v.Line, "key %q: want a plain value or a list of them", clip(e.Key))
		}
		if v.Tag == "!!null" {
			return Entry{}, f.errorf(v.Line, "key %q has no value: give one or remove the line", clip(e.Key))
		}
		e.Values = append(e.Values, v.Value)
	}
	return e, nil
}

func (f File) errorf(line int, format string, args ...any) error {
	source := f.Name
	if line > 0 {
		source = fmt.Sprintf("%s line %d", f.Name, line)
	}
	return &Error{Source: source, Err: fmt.Errorf(format, args...)}
}

// clip keeps hostile text out of error lines.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
