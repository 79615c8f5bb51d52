package main

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/credentials"
	"sigs.k8s.io/yaml"

	"github.com/ovlnet/ovl/internal/identity"
)

func newLoginCommand(o *options) *cobra.Command {
	var token, name string
	c := &cobra.Command{
		Use:   "login",
		Short: "Join a cluster as a person, with a token of its admin",
		Long: `login makes a key, has it certified for the role of the token, and adds a context
to ~/.config/ovl/config.yaml that uses it. The key never leaves this machine.`,
		Example: `  ovlctl login --controller 192.0.2.1:6790 --token ovl1-…
  ovlctl login --controller 192.0.2.1:6790 --token -   # reads it from stdin`,
		Args:              exactly(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			text, err := o.tokenText(token)
			if err != nil {
				return err
			}
			ctx, cancel := o.deadline(c.Context())
			defer cancel()
			return o.login(ctx, text, name)
		},
	}
	c.Flags().StringVar(&token, "token", "", "the token; - reads it from stdin (OVL_TOKEN)")
	c.Flags().StringVar(&name, "as", "cluster", "name of the context to write")
	return c
}

// tokenText returns the token that was given as flag, in the environment or on
// stdin.
func (o *options) tokenText(flag string) (identity.Token, error) {
	text := first(flag, o.getenv("OVL_TOKEN"))
	if text == "-" {
		b, err := io.ReadAll(io.LimitReader(o.stdin, maxConfig))
		if err != nil {
			return identity.Token{}, fmt.Errorf("read token: %w", err)
		}
		text = string(bytes.TrimSpace(b))
	}
	if text == "" {
		return identity.Token{}, usagef("login: --token is missing: an admin makes one with ovlctl token create --role … --user …")
	}
	t, err := identity.ParseToken(text)
	if err != nil {
		return t, usagef("login: %w", err)
	}
	return t, nil
}

func (o *options) login(ctx context.Context, t identity.Token, name string) error {
	path, _ := o.configPath()
	if path == "" {
		return usagef("login: no home directory to write to: name a file with --config")
	}
	address, err := controllerAddress(o.controller)
	if err != nil {
		return err
	}
	cl, err := (&client{who: "controller " + address, address: address, ca: t.CA}).dial("tcp", credentials.NewTLS(identity.Pinned(t.CA, time.Now)))
	if err != nil {
		return err
	}
	defer cl.close()
	pair, roots, err := cl.join(ctx, t, keyOf(path, name))
	if err != nil {
		return err
	}
	who, err := pair.Who()
	if err != nil {
		return fmt.Errorf("login: %w", err)
	}
	if err := save(path, contextSet{Name: name, Controller: address}, pair, identity.EncodeCerts(roots)); err != nil {
		return fmt.Errorf("login: %w", err)
	}
	o.say("You are %s. Context %q of %s uses that from now on.", who, name, path)
	return nil
}

// keyOf returns the key of a context that is there already; nil: none that can be
// read.
func keyOf(path, name string) crypto.Signer {
	config, err := readConfig(path)
	if err != nil {
		return nil
	}
	i := slices.IndexFunc(config.Contexts, func(c contextSet) bool { return c.Name == name })
	if i < 0 || config.Contexts[i].Cert == "" {
		return nil
	}
	c := config.Contexts[i].within(filepath.Dir(path))
	pair, err := identity.ReadPair(c.Cert, c.Key)
	if err != nil {
		return nil
	}
	return pair.Key
}

// save writes the files, and last the configuration that names them.
func save(path string, c contextSet, pair identity.Pair, ca []byte) error {
	config, err := readConfig(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	c.CA, c.Cert = c.Name+"-ca.pem", c.Name+".pem"
	data, err := identity.EncodePair(pair)
	if err != nil {
		return err
	}
	config.CurrentContext = c.Name
	config.Contexts = append(slices.DeleteFunc(config.Contexts, func(x contextSet) bool { return x.Name == c.Name }), c)
	text, err := yaml.Marshal(config)
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		data []byte
	}{{c.CA, ca}, {c.Cert, data}, {filepath.Base(path), text}} {
		if err := identity.Write(filepath.Join(dir, f.name), f.data); err != nil {
			return err
		}
	}
	return nil
}
