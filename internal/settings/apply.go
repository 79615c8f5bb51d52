package settings

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// Error is a setting that cannot be used: a mistake of whoever wrote it.
type Error struct {
	Source string // the file and line, or the variable
	Err    error
}

func (e *Error) Error() string { return "read settings: " + e.Source + ": " + e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

// EnvName returns the name of the variable that stands for a flag: OVL_ and the
// flag in upper case, with '_' for '-'.
func EnvName(flag string) string {
	return "OVL_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// notSettings are flags that only make sense when typed.
var notSettings = map[string]bool{configFlag: true, "help": true, "version": true}

// Apply gives each flag of flags that was not typed the value of its variable,
// or else of its key in file. An empty variable counts as not set. A flag that
// got a value counts as changed, as if it had been typed. The error is an
// [*Error]; flags may then be partly filled.
//
// Keys of file must be names of flags, of this set or else in alsoKnown (what
// other commands of the same program understand).
func Apply(flags *pflag.FlagSet, env func(string) (string, bool), file File, alsoKnown func(key string) bool) error {
	if err := checkKeys(flags, file, alsoKnown); err != nil {
		return err
	}
	var first error
	flags.VisitAll(func(f *pflag.Flag) {
		if first != nil || f.Changed || notSettings[f.Name] {
			return
		}
		first = applyOne(flags, f, env, file)
	})
	return first
}

func applyOne(flags *pflag.FlagSet, f *pflag.Flag, env func(string) (string, bool), file File) error {
	if v, ok := env(EnvName(f.Name)); ok && v != "" {
		if err := flags.Set(f.Name, v); err != nil {
			return &Error{Source: "environment variable " + EnvName(f.Name), Err: refusal(err)}
		}
		return nil
	}
	e, ok := file.Get(f.Name)
	if !ok {
		return nil
	}
	if err := setEntry(flags, f, e); err != nil {
		return file.errorf(e.Line, "key %q: %w", e.Key, err)
	}
	return nil
}

func setEntry(flags *pflag.FlagSet, f *pflag.Flag, e Entry) error {
	if !e.List {
		return refusal(flags.Set(f.Name, e.Values[0]))
	}
	list, ok := f.Value.(pflag.SliceValue)
	if !ok {
		return errors.New("takes one value, not a list")
	}
	f.Changed = true
	return list.Replace(e.Values)
}

func checkKeys(flags *pflag.FlagSet, file File, alsoKnown func(string) bool) error {
	for _, e := range file.Entries {
		if notSettings[e.Key] {
			return file.errorf(e.Line, "key %q cannot be set in a file: remove it", e.Key)
		}
		if flags.Lookup(e.Key) != nil || alsoKnown(e.Key) {
			continue
		}
		hint := "the keys are the names of the flags, see --help"
		if near := nearest(flags, e.Key); near != "" {
			hint = fmt.Sprintf("did you mean %q?", near)
		}
		return file.errorf(e.Line, "unknown key %q: %s", clip(e.Key), hint)
	}
	return nil
}

// refusal takes pflag's wrapping off, which speaks of flags that nobody typed.
func refusal(err error) error {
	if v, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		return fmt.Errorf("value %q: %w", clip(v.GetValue()), errors.Unwrap(v))
	}
	return err
}
