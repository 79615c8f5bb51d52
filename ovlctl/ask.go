package main

import (
	"bufio"
	"fmt"
	"strings"
)

// confirm asks before something is destroyed. Without a terminal nobody can
// answer, so then --yes is required.
func (o *options) confirm(question string) error {
	if o.yes {
		return nil
	}
	if !o.terminal(o.stdin) || !o.terminal(o.stderr) {
		return usagef("%s: nobody to ask without a terminal; say --yes", question)
	}
	fmt.Fprintf(o.stderr, "%s? [y/N] ", question)
	answer, _ := bufio.NewReader(o.stdin).ReadString('\n')
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return codef(exitFailed, "%s: not confirmed, nothing done", question)
}
