package main

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"
)

// completionTimeout bounds what a shell waits for after Tab: a controller that
// is away must not freeze the prompt.
const completionTimeout = 2 * time.Second

// completer finds the names of live objects.
type completer func(ctx context.Context, o *options) ([]string, error)

func networkNames(ctx context.Context, o *options) (names []string, err error) {
	err = o.onController(ctx, func(ctx context.Context, cl *client) error {
		all, err := cl.listNetworks(ctx)
		for _, n := range all {
			names = append(names, n.GetName())
		}
		return err
	})
	return names, err
}

func hostNames(ctx context.Context, o *options) (names []string, err error) {
	err = o.onController(ctx, func(ctx context.Context, cl *client) error {
		all, err := cl.listHosts(ctx)
		for _, h := range all {
			names = append(names, h.GetName())
		}
		return err
	})
	return names, err
}

func endpointNames(ctx context.Context, o *options) (names []string, err error) {
	err = o.onController(ctx, func(ctx context.Context, cl *client) error {
		all, err := cl.listEndpoints(ctx, "", "")
		for _, e := range all {
			names = append(names, e.GetName())
		}
		return err
	})
	return names, err
}

func attachmentNames(ctx context.Context, o *options) (names []string, err error) {
	err = o.onAgent(ctx, func(ctx context.Context, cl *client) error {
		all, err := cl.listAttachments(ctx)
		for _, a := range all {
			names = append(names, a.GetName())
		}
		return err
	})
	return names, err
}

func sandboxNames(_ context.Context, o *options) ([]string, error) { return o.paths.List() }

// live makes a completer one for a flag or an argument.
func (o *options) live(find completer) func(*cobra.Command) ([]string, error) {
	return func(c *cobra.Command) ([]string, error) {
		// Completion calls no PersistentPreRun.
		if err := o.resolve(); err != nil {
			return nil, err
		}
		o.timeout = min(o.timeout, completionTimeout)
		return find(c.Context(), o)
	}
}

// completeOne completes the first argument.
func (o *options) completeOne(find completer) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return found(o.live(find)(c))
	}
}

// completeMany completes every argument with what is not yet among them.
func (o *options) completeMany(find completer) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		names, err := o.live(find)(c)
		names = slices.DeleteFunc(names, func(n string) bool { return slices.Contains(args, n) })
		return found(names, err)
	}
}

// completeFlag completes the values of a flag.
func completeFlag(c *cobra.Command, flag string, find func(*cobra.Command) ([]string, error)) {
	must(c.RegisterFlagCompletionFunc(flag, func(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return found(find(c))
	}))
}

// fixed completes a flag with values known in advance.
func fixed(c *cobra.Command, flag string, values ...string) {
	completeFlag(c, flag, func(*cobra.Command) ([]string, error) { return values, nil })
}

func found(names []string, err error) ([]string, cobra.ShellCompDirective) {
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	slices.Sort(names)
	return slices.Compact(names), cobra.ShellCompDirectiveNoFileComp
}

// must is for what only a misspelt flag in this package's own code can fail.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
