package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ovlnet/ovl/internal/build"
)

func newVersionCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:               "version",
		Short:             "Show what this ovlctl was built from",
		Example:           "  ovlctl version\n  ovlctl version -o json",
		Args:              exactly(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			b := build.Version()
			switch o.output {
			case formatJSON, formatYAML:
				return printValue(o, b)
			case formatName:
				_, err := fmt.Fprintln(o.stdout, b.Version)
				return err
			}
			_, err := fmt.Fprintf(o.stdout, "ovlctl %s\n", b)
			return err
		},
	}
}
