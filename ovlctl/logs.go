package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"
)

func newLogsCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:               "logs NAME",
		Short:             "Show what the command of a detached sandbox has written",
		Example:           "  ovlctl logs web",
		Args:              exactly("NAME"),
		ValidArgsFunction: o.completeOne(sandboxNames),
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := o.paths.Sandbox(args[0])
			if err != nil {
				return usagef("show log: %w", err)
			}
			if !s.Exists() {
				return codef(exitNotFound, "show log of sandbox %s: there is none on this host; see ovlctl ps", args[0])
			}
			f, err := os.Open(s.LogPath())
			if errors.Is(err, fs.ErrNotExist) {
				return nil // it was not detached: its words went to its terminal
			}
			if err != nil {
				return fmt.Errorf("show log of sandbox %s: %w", args[0], err)
			}
			defer func() { _ = f.Close() }()
			_, err = io.Copy(o.stdout, f)
			return err
		},
	}
}
