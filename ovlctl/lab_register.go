package main

import "github.com/spf13/cobra"

// addLab adds the commands of the lab: several hosts on this machine.
func addLab(root *cobra.Command, o *options) {
	addCommands(root, groupOther, newLabCommand(o))
}
