package settings

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
)

const configFlag = "config"

// Bind adds the flag --config to a command and all below it.
func Bind(cmd *cobra.Command) {
	cmd.PersistentFlags().String(configFlag, "", "YAML file with values for flags, such as 'log-level: debug' (each flag is also an environment variable, such as OVL_LOG_LEVEL)")
}

// Load fills the flags of the command that is about to run, from the environment
// and from the file that --config or OVL_CONFIG names. Call it first, from the
// PersistentPreRunE of the command that was given to [Bind]; flags that it
// fills satisfy cobra's required flags. The error is an [*Error].
func Load(cmd *cobra.Command) error {
	flags := cmd.Flags()
	path, err := flags.GetString(configFlag)
	if err != nil {
		return fmt.Errorf("read settings: %w", err)
	}
	if path == "" {
		path = os.Getenv(EnvName(configFlag))
	}
	var file File
	if path != "" {
		if file, err = readFile(path); err != nil {
			return err
		}
	}
	return Apply(flags, os.LookupEnv, file, func(key string) bool { return knows(cmd.Root(), key) })
}

// knows reports whether key is a flag of cmd or of a command below it: one file
// serves all commands of a program.
func knows(cmd *cobra.Command, key string) bool {
	if cmd.Flags().Lookup(key) != nil || cmd.PersistentFlags().Lookup(key) != nil {
		return true
	}
	for _, c := range cmd.Commands() {
		if knows(c, key) {
			return true
		}
	}
	return false
}

func readFile(path string) (File, error) {
	f, err := os.Open(path)
	if err != nil {
		return File{}, &Error{Source: "--config", Err: err}
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return File{}, &Error{Source: "--config", Err: err}
	}
	return Parse(path, data)
}
