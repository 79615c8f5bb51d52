package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"sigs.k8s.io/yaml"
)

// configFile is ~/.config/ovl/config.yaml: named sets of whom to ask.
type configFile struct {
	CurrentContext string       `json:"currentContext"`
	Contexts       []contextSet `json:"contexts"`

	path string // where it was read
}

// contextSet is one named set.
type contextSet struct {
	Name       string `json:"name"`
	Controller string `json:"controller,omitempty"`
	Socket     string `json:"socket,omitempty"`
	CA         string `json:"ca,omitempty"`   // files, relative to this one
	Cert       string `json:"cert,omitempty"` // own certificate
	Key        string `json:"key,omitempty"`  // empty: in the certificate's file
}

// within makes the names of the files absolute, or relative to the current
// directory as the configuration file's is.
func (c contextSet) within(dir string) contextSet {
	for _, p := range []*string{&c.CA, &c.Cert, &c.Key} {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
	return c
}

// maxConfig bounds the file that we are ready to read, in bytes.
const maxConfig = 1 << 20

// configPath returns the file's path, and whether the user named it.
func (o *options) configPath() (path string, named bool) {
	if p := first(o.config, o.getenv("OVL_CONFIG")); p != "" {
		return p, true
	}
	dir := o.getenv("XDG_CONFIG_HOME")
	if dir == "" {
		home := o.getenv("HOME")
		if home == "" {
			return "", false
		}
		dir = filepath.Join(home, ".config")
	}
	return filepath.Join(dir, "ovl", "config.yaml"), false
}

// loadConfig reads the file that the user named, or else the first that is there:
// his own, and those of this machine. A default one that is not ours to read, as
// under setpriv or su, counts as not there.
func (o *options) loadConfig() (configFile, error) {
	path, named := o.configPath()
	if named {
		return readConfig(path)
	}
	for _, p := range append([]string{path}, o.machine...) {
		if p == "" {
			continue
		}
		c, err := readConfig(p)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			continue
		}
		return c, err
	}
	return configFile{}, nil
}

func readConfig(path string) (configFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return configFile{}, usagef("read configuration: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return configFile{}, usagef("read configuration: %w", err)
	}
	c, err := parseConfig(b)
	if err != nil {
		return configFile{}, usagef("read configuration %s: %w", path, err)
	}
	c.path = path
	return c, nil
}

// parseConfig is strict: a misspelt key would silently ask the wrong cluster.
func parseConfig(b []byte) (configFile, error) {
	var c configFile
	if len(b) > maxConfig {
		return c, fmt.Errorf("larger than %d bytes", maxConfig)
	}
	if err := yaml.UnmarshalStrict(b, &c); err != nil {
		return configFile{}, err
	}
	seen := map[string]bool{}
	for _, x := range c.Contexts {
		if x.Name == "" || seen[x.Name] {
			return configFile{}, fmt.Errorf("context %q: want a name that no other context has", x.Name)
		}
		seen[x.Name] = true
	}
	return c, nil
}

// loadContext returns the context to use; without any it is empty.
func (o *options) loadContext() (contextSet, error) {
	c, err := o.loadConfig()
	if err != nil {
		return contextSet{}, err
	}
	want := first(o.context, o.getenv("OVL_CONTEXT"), c.CurrentContext)
	if want == "" {
		return contextSet{}, nil
	}
	for _, x := range c.Contexts {
		if x.Name == want {
			return x.within(filepath.Dir(c.path)), nil
		}
	}
	path, _ := o.configPath()
	return contextSet{}, usagef("context %q is not in %s; see ovlctl context ls", want, first(c.path, path))
}

func (o *options) contextNames() ([]string, error) {
	c, err := o.loadConfig()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, x := range c.Contexts {
		names = append(names, x.Name)
	}
	return names, nil
}
