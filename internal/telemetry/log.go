package telemetry

import (
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/spf13/pflag"
)

// Options are what an operator says about logs and metrics.
type Options struct {
	LogFormat     string // text or json
	LogLevel      string // debug, info, warn or error
	MetricsListen string // address of the HTTP listener; empty = none
}

// Bind adds --log-format, --log-level and --metrics-listen to flags.
func (o *Options) Bind(flags *pflag.FlagSet) {
	flags.StringVar(&o.LogFormat, "log-format", "text", "format of the log on stderr: text or json")
	flags.StringVar(&o.LogLevel, "log-level", "info", "least severe messages to log: debug, info, warn or error")
	flags.StringVar(&o.MetricsListen, "metrics-listen", "", "HTTP address for /metrics, /healthz and /readyz, such as :6791 (without a host: loopback only; empty: off)")
}

// Logger returns a logger that writes to w as the options say.
func (o *Options) Logger(w io.Writer) (*slog.Logger, error) {
	level, err := parseLevel(o.LogLevel)
	if err != nil {
		return nil, err
	}
	opts := &slog.HandlerOptions{Level: level}
	switch o.LogFormat {
	case "text":
		return slog.New(slog.NewTextHandler(w, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	}
	return nil, fmt.Errorf("--log-format %q: want text or json", o.LogFormat)
}

// parseLevel takes the four names alone: slog's own parser also takes offsets
// such as "info+2", which no log of ours has.
func parseLevel(s string) (slog.Level, error) {
	for _, l := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
		if strings.EqualFold(s, l.String()) {
			return l, nil
		}
	}
	return 0, fmt.Errorf("--log-level %q: want debug, info, warn or error", s)
}
