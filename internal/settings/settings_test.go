package settings_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ovlnet/ovl/internal/settings"
)

type program struct {
	cmd     *cobra.Command
	etcd    []string
	port    uint16
	level   string
	docker  bool
	timeout time.Duration
	ran     bool
}

func newProgram() *program {
	p := &program{cmd: &cobra.Command{Use: "ovl-test", SilenceUsage: true, SilenceErrors: true}}
	settings.Bind(p.cmd)
	p.cmd.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { return settings.Load(cmd) }
	run := &cobra.Command{Use: "run", RunE: func(*cobra.Command, []string) error { p.ran = true; return nil }}
	run.Flags().StringSliceVar(&p.etcd, "etcd", nil, "")
	run.Flags().Uint16Var(&p.port, "vxlan-port", 4789, "")
	run.Flags().BoolVar(&p.docker, "docker-plugin", false, "")
	run.Flags().DurationVar(&p.timeout, "timeout", time.Second, "")
	_ = run.MarkFlagRequired("etcd")
	other := &cobra.Command{Use: "other", RunE: func(*cobra.Command, []string) error { return nil }}
	other.Flags().String("only-other", "", "")
	p.cmd.PersistentFlags().StringVar(&p.level, "log-level", "info", "")
	p.cmd.AddCommand(run, other)
	p.cmd.SetOut(io.Discard)
	p.cmd.SetErr(io.Discard)
	return p
}

func (p *program) run(args ...string) error {
	p.cmd.SetArgs(append([]string{"run"}, args...))
	return p.cmd.Execute()
}

func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ovl.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPrecedence(t *testing.T) {
	t.Setenv("OVL_LOG_LEVEL", "from-env")
	t.Setenv("OVL_VXLAN_PORT", "2")
	t.Setenv("OVL_TIMEOUT", "") // empty is not set
	file := writeFile(t, "log-level: from-file\nvxlan-port: 3\ntimeout: 4s\netcd: [http://a:1, http://b:2]\nonly-other: x\n")

	p := newProgram()
	if err := p.run("--config", file, "--vxlan-port", "1"); err != nil {
		t.Fatal(err)
	}
	if p.port != 1 {
		t.Errorf("vxlan-port = %d; what was typed must win over environment and file", p.port)
	}
	if p.level != "from-env" {
		t.Errorf("log-level = %q; the environment must win over the file", p.level)
	}
	if p.timeout != 4*time.Second {
		t.Errorf("timeout = %v; the file must win over the default, and an empty variable is not set", p.timeout)
	}
	if got := strings.Join(p.etcd, " "); got != "http://a:1 http://b:2" {
		t.Errorf("etcd = %q, want both elements of the file's list", got)
	}
	if p.docker {
		t.Error("docker-plugin changed though nobody set it")
	}
	if !p.ran {
		t.Error("the command did not run")
	}
}

func TestConfigFromEnvironmentSatisfiesRequiredFlags(t *testing.T) {
	t.Setenv("OVL_CONFIG", writeFile(t, "etcd: http://a:1,http://b:2\ndocker-plugin: true\n"))
	p := newProgram()
	if err := p.run(); err != nil {
		t.Fatal(err)
	}
	if len(p.etcd) != 2 || !p.docker {
		t.Errorf("etcd = %q, docker-plugin = %v; want two URLs and true", p.etcd, p.docker)
	}
}

func TestRefusals(t *testing.T) {
	tests := []struct {
		name, file string
		want       []string
	}{
		{"typo", "\netdc: x\n", []string{"line 2", `unknown key "etdc"`, `did you mean "etcd"?`}},
		{"unknown", "colour: red\n", []string{"line 1", `unknown key "colour"`, "--help"}},
		{"not for files", "config: x\n", []string{"line 1", "cannot be set in a file"}},
		{"twice", "etcd: a\nvxlan-port: 1\netcd: b\n", []string{"line 3", "already set in line 1"}},
		{"bad number", "etcd: a\nvxlan-port: seventy\n", []string{"line 2", `key "vxlan-port"`, `value "seventy"`}},
		{"out of range", "etcd: a\nvxlan-port: 70000\n", []string{"line 2", "out of range"}},
		{"list for one", "etcd: a\nvxlan-port: [1, 2]\n", []string{"line 2", "not a list"}},
		{"mapping", "etcd:\n  url: a\n", []string{"line 2", "plain value"}},
		{"no value", "etcd:\n", []string{"line 1", "no value"}},
		{"alias", "log-level: &a x\netcd: [*a]\n", []string{"line 2", "plain value"}},
		{"not a mapping", "- etcd\n", []string{"line 1", "one a line"}},
		{"two documents", "etcd: a\n---\netcd: b\n", []string{"more than one YAML document"}},
		{"not YAML", "etcd: [\n", []string{"ovl.yaml"}},
		{"too large", strings.Repeat("#", settings.MaxFile+1), []string{"larger than"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newProgram()
			err := p.run("--config", writeFile(t, tt.file))
			if _, ok := errors.AsType[*settings.Error](err); !ok {
				t.Fatalf("error = %v (%T), want a *settings.Error", err, err)
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("error %q does not say %q", err, w)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("error %q has more than one line", err)
			}
			if p.ran {
				t.Error("the command ran all the same")
			}
		})
	}
}

func TestRefusalOfEnvironment(t *testing.T) {
	t.Setenv("OVL_VXLAN_PORT", "seventy")
	err := newProgram().run("--etcd", "a")
	if err == nil || !strings.Contains(err.Error(), "environment variable OVL_VXLAN_PORT") {
		t.Errorf("error = %v, want it to name the variable", err)
	}
}

func TestMissingFile(t *testing.T) {
	err := newProgram().run("--config", filepath.Join(t.TempDir(), "none.yaml"))
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error = %v, want one that wraps os.ErrNotExist", err)
	}
}

func TestFileOfComments(t *testing.T) {
	f, err := settings.Parse("x", []byte("# nothing yet\n"))
	if err != nil || len(f.Entries) != 0 {
		t.Errorf("Parse = %v, %v; want an empty file", f, err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "etcd: a\n", "a: [1, 2]\nb: \"x\"\n", "a: &x 1\nb: *x\n", "{a: 1}", "a: 1\n---\nb: 2\n", "? [a]\n: b\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := settings.Parse("fuzz", data)
		if err != nil {
			if _, ok := errors.AsType[*settings.Error](err); !ok {
				t.Fatalf("error %v is not a *settings.Error", err)
			}
			return
		}
		seen := map[string]bool{}
		for _, e := range file.Entries {
			if e.Key == "" || seen[e.Key] || e.Line < 1 || (!e.List && len(e.Values) != 1) {
				t.Fatalf("bad entry %+v", e)
			}
			seen[e.Key] = true
		}
		flags := pflag.NewFlagSet("fuzz", pflag.ContinueOnError)
		flags.StringSlice("etcd", nil, "")
		flags.Int("a", 0, "")
		env := func(string) (string, bool) { return "", false }
		_ = settings.Apply(flags, env, file, func(string) bool { return false })
	})
}
