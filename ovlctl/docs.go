package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// newDocsCommand writes the manual from the same source as the help; packagers
// run it.
func newDocsCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "man DIR",
		Aliases:           []string{"docs"},
		Short:             "Write man pages into a directory",
		Hidden:            true,
		Args:              exactly("DIR"),
		ValidArgsFunction: cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs),
		RunE: func(c *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil { //nolint:gosec // manuals are for everybody
				return fmt.Errorf("write man pages: %w", err)
			}
			root := c.Root()
			root.DisableAutoGenTag = true // a date would make every build differ
			header := &doc.GenManHeader{Section: "1", Source: "ovl", Manual: "ovl"}
			if err := doc.GenManTree(root, header, args[0]); err != nil {
				return fmt.Errorf("write man pages: %w", err)
			}
			return nil
		},
	}
}
