package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/ovlnet/ovl/internal/dataplane"
)

// readSysctls reads the parameters of the host. One that does not exist (IPv6
// is off) has no row.
func (o *observation) readSysctls() error {
	names, err := o.space.localnets()
	if err != nil {
		return err
	}
	for _, name := range append(names, dataplane.HostSysctls...) {
		v, err := os.ReadFile(filepath.Join(o.space.sysctls, name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return fmt.Errorf("read sysctl: %w", err)
		}
		row := dataplane.Sysctl{SysctlKey: dataplane.SysctlKey{NS: o.space.ns, Name: name}, Value: strings.TrimSpace(string(v))}
		if _, ofLink := row.Link(); ofLink && row.Value == "0" {
			continue // as a link begins
		}
		o.state.Add(row)
	}
	return nil
}

// localnets returns the names of the parameters that [dataplane.RouteLocalnet]
// makes, for the bridges that bear a name of ours.
func (s *space) localnets() ([]string, error) {
	links, err := os.ReadDir(filepath.Join(s.sysctls, "net/ipv4/conf"))
	if err != nil {
		return nil, fmt.Errorf("read sysctl: %w", err)
	}
	var names []string
	for _, link := range links {
		if strings.HasPrefix(link.Name(), dataplane.BridgePrefix) {
			names = append(names, dataplane.RouteLocalnet(link.Name()).Name)
		}
	}
	return names, nil
}

// applySysctl sets a parameter. Below /proc/sys/net a thread sees the
// parameters of the namespace that it is in.
func (l *Linux) applySysctl(s *space, verb dataplane.Verb, r dataplane.Sysctl) error {
	if verb == dataplane.Delete {
		return nil // never owned, so never reverted
	}
	if !strings.HasPrefix(r.Name, "net/") || !fs.ValidPath(r.Name) {
		return refusal(fmt.Sprintf("%q is no network parameter", r.Name))
	}
	write := func() error { return writeSysctl(filepath.Join(s.sysctls, r.Name), r.Value) }
	if s == l.host {
		return write()
	}
	return within(s.file, write)
}

// writeSysctl sets a parameter of the namespace that the thread is in.
func writeSysctl(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value + "\n")
	return errors.Join(err, f.Close())
}
