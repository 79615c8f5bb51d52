package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/ovlnet/ovl/internal/settings"
	"github.com/ovlnet/ovl/node-agent/conflist"
)

func newInstallCNICommand() *cobra.Command {
	return &cobra.Command{
		Use:   "install-cni DIR",
		Short: "put the CNI plugin where container runtimes look for it",
		Long: `install-cni copies ovl-cni, which is beside this program, to DIR under the name "ovl",
by which configurations call it. Runtimes may be at work meanwhile.`,
		Example: "  ovl-agent install-cni /opt/cni/bin",
		Args:    settings.UsageArgs(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			self, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find ovl-cni: %w", err)
			}
			return conflist.Install(filepath.Join(filepath.Dir(self), "ovl-cni"), args[0])
		},
	}
}
