package main

// The SGR codes (ECMA-48) of the two colours that mean something.
const (
	green = "32"
	red   = "31"
)

// paint colours s on a terminal, never with NO_COLOR (no-color.org).
func (o *options) paint(colour, s string) string {
	if !o.terminal(o.stdout) || o.getenv("NO_COLOR") != "" {
		return s
	}
	return "\x1b[" + colour + "m" + s + "\x1b[0m"
}

// verdict is good in green or bad in red.
func (o *options) verdict(ok bool, good, bad string) string {
	if ok {
		return o.paint(green, good)
	}
	return o.paint(red, bad)
}
