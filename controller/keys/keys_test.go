package keys_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ovlnet/ovl/controller/keys"
	"github.com/ovlnet/ovl/internal/identity"
)

func config(dir string) keys.Config {
	return keys.Config{Dir: dir, Hostname: "c1", Life: 30 * 24 * time.Hour}
}

func open(t *testing.T, c keys.Config) *keys.Keys {
	t.Helper()
	k, err := keys.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// A controller that starts again has its CA; all that it writes is for its eyes
// alone.
func TestOpen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "identity")
	first := open(t, config(dir))
	if again := open(t, config(dir)); again.InForce()[0] != first.InForce()[0] {
		t.Error("another CA after a restart")
	}
	for file, role := range map[string]identity.Role{"controller.pem": identity.Controller, "admin.pem": identity.Admin} {
		data, err := identity.ReadKey(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		p, err := identity.ParsePair(data)
		if err != nil {
			t.Fatal(err)
		}
		if who, err := identity.Verify(p.Chain, first.Roots(), time.Now(), role); err != nil {
			t.Errorf("%s: %v %v", file, who, err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s has mode %v, %v", e.Name(), info.Mode(), err)
		}
	}
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("the directory has mode %v, %v", st.Mode(), err)
	}
}

// A crash between the two files of a new CA leaves none.
func TestCrashWhileMaking(t *testing.T) {
	dir := t.TempDir()
	open(t, config(dir))
	if err := os.Remove(filepath.Join(dir, "ca.pem")); err != nil {
		t.Fatal(err)
	}
	open(t, config(dir))
}

func TestOwnCA(t *testing.T) {
	a, err := identity.NewAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := a.Encode()
	if err != nil {
		t.Fatal(err)
	}
	given := t.TempDir()
	c := config(t.TempDir())
	c.CACert, c.CAKey = filepath.Join(given, "cert"), filepath.Join(given, "key")
	for path, data := range map[string][]byte{c.CACert: cert, c.CAKey: key} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if k := open(t, c); k.InForce()[0] != a.Print() {
			t.Error("another CA than the one given")
		}
	}
	used := config(t.TempDir())
	open(t, used)
	used.CACert, used.CAKey = c.CACert, c.CAKey
	if _, err := keys.Open(used); err == nil || !strings.Contains(err.Error(), "holds a CA already") {
		t.Errorf("an own CA over another one: %v", err)
	}
	if err := os.Chmod(c.CAKey, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := keys.Open(c); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that all may read: %v", err)
	}
}

// The certificates are renewed at half of their life, again and again, and never
// are too old.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		k := open(t, config(dir))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); k.Run(ctx, slog.New(slog.DiscardHandler)) }()
		defer func() { cancel(); <-ended }()
		seen := map[string]bool{}
		for range 100 {
			time.Sleep(24 * time.Hour)
			leaf := k.Credential.Pair().Leaf()
			seen[leaf.SerialNumber.String()] = true
			if left := time.Until(leaf.NotAfter); left < 14*24*time.Hour {
				t.Fatalf("%v left", left)
			}
		}
		if len(seen) != 7 {
			t.Errorf("%d certificates in 100 days, want 7", len(seen))
		}
	})
}
