// Package settings fills the flags of a command from the environment and from
// a YAML file, so that every flag --some-flag of the ovl binaries is also the
// variable OVL_SOME_FLAG and the key some-flag of the file named by --config.
//
// What was typed wins over the environment, the environment over the file, the
// file over the flag's default. It must never know a single flag by name but
// --config, and it must never guess: a key that is no flag, a value that its
// flag refuses or a file that is not a plain list of settings is an [*Error]
// that says where. Its invariant: after [Load] a program reads its flags and
// nothing else.
package settings
