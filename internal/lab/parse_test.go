package lab

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestParseStat(t *testing.T) {
	rest := strings.Repeat(" 0", 18)
	for stat, want := range map[string]uint64{
		"7 (sleep) S" + rest + " 4242 0 0":      4242,
		"7 (a) b) (c) R" + rest + " 4243 0":     4243,
		"1 (ovlctl) S" + rest + " 12345678901 ": 12345678901,
	} {
		if got, err := parseStat(stat); err != nil || got != want {
			t.Errorf("parse %q: %d, %v, want %d", stat, got, err, want)
		}
	}
	for _, stat := range []string{"", "7 (sleep) S 0 0", "7 (x) Z" + rest + " 1", "7 sleep S" + rest + " 1", "7 (x) S" + rest + " -1"} {
		if got, err := parseStat(stat); err == nil {
			t.Errorf("parse %q: %d, want an error", stat, got)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add("7 (sleep) S 1 7 7 0 -1 4194304 98 0 0 0 0 0 0 0 20 0 1 0 4242 2838528 224")
	f.Add("7 (a) b")
	f.Fuzz(func(t *testing.T, stat string) {
		n, err := parseStat(stat)
		if err == nil && !strings.Contains(stat, fmt.Sprint(n)) && !strings.Contains(stat, "0") {
			t.Errorf("parse %q: %d is not in it", stat, n)
		}
	})
}

func TestEnvironmentNamesTheLabAndNothingElse(t *testing.T) {
	c := Config{Name: "x", BinDir: "/opt/ovl"}
	got := environment([]string{"PATH=/bin", "OVL_SOCKET=/s", "OVL_LOG_LEVEL=debug", "TERM=vt100"}, c)
	want := []string{
		"OVL_LOG_LEVEL=debug", "TERM=vt100", "PATH=/opt/ovl:/bin:" + sbin,
		"OVL_CONTROLLER=192.168.77.253:6790", "OVL_CA=/etc/ovl/ca.pem", "OVL_CERT=/etc/ovl/admin.pem", "OVL_LAB=x",
	}
	if !slices.Equal(got, want) {
		t.Errorf("environment %q, want %q", got, want)
	}
}

func TestAddressesDiffer(t *testing.T) {
	for _, ipv6 := range []bool{false, true} {
		c := Config{Hosts: MaxHosts, IPv6: ipv6}
		seen := map[string]string{c.address(partSwitch).String(): "the switch"}
		for i, name := range c.names() {
			a := c.address(part(i)).String()
			if other, ok := seen[a]; ok {
				t.Errorf("%s and %s both have %s", name, other, a)
			}
			seen[a] = name
		}
	}
}
