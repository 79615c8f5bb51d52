package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"
)

// The formats of -o.
const (
	formatTable = "table"
	formatWide  = "wide"
	formatJSON  = "json"
	formatYAML  = "yaml"
	formatName  = "name"
)

func parseFormat(s string) (string, error) {
	formats := []string{formatTable, formatWide, formatJSON, formatYAML, formatName}
	if !slices.Contains(formats, s) {
		return "", usagef("--output %q: want one of %s", s, strings.Join(formats, ", "))
	}
	return s, nil
}

// view says how messages of one kind print.
type view[T proto.Message] struct {
	name    func(T) string
	columns []column[T]
}

// column is one column of a table; a wide one shows only with -o wide, and
// where one object is shown alone.
type column[T proto.Message] struct {
	title string
	wide  bool
	lines bool // a cell may be several lines; the table then goes on below
	cell  func(T) string
}

// list prints items in the format that -o asks for.
func (v view[T]) list(o *options, items []T) error {
	switch o.output {
	case formatJSON, formatYAML:
		return printMessages(o, items)
	case formatName:
		return v.names(o, items)
	}
	columns := v.shown(o.output == formatWide)
	rows := [][]string{titles(columns)}
	for _, it := range items {
		rows = append(rows, cells(columns, it)...)
	}
	return printTable(o.stdout, rows)
}

// one prints a single object: as a table, a line for each of its columns.
func (v view[T]) one(o *options, item T) error {
	switch o.output {
	case formatJSON, formatYAML:
		return printMessage(o, item)
	case formatName:
		return v.names(o, []T{item})
	}
	var rows [][]string
	for _, c := range v.columns {
		rows = append(rows, []string{c.title, c.cell(item)})
	}
	return printTable(o.stdout, rows)
}

// each prints several objects in full, an empty line between; JSON and YAML
// are an array.
func (v view[T]) each(o *options, items []T) error {
	if o.output != formatTable && o.output != formatWide {
		return v.list(o, items)
	}
	for i, it := range items {
		if i > 0 {
			fmt.Fprintln(o.stdout)
		}
		if err := v.one(o, it); err != nil {
			return err
		}
	}
	return nil
}

// made prints what a command has made or changed: its name, unless the user
// asked for a format.
func (v view[T]) made(o *options, asked bool, item T) error {
	if !asked {
		return v.names(o, []T{item})
	}
	if o.output == formatTable || o.output == formatWide {
		return v.list(o, []T{item})
	}
	return v.one(o, item)
}

func (v view[T]) names(o *options, items []T) error {
	for _, it := range items {
		if _, err := fmt.Fprintln(o.stdout, oneLine(v.name(it))); err != nil {
			return err
		}
	}
	return nil
}

func (v view[T]) shown(wide bool) []column[T] {
	return slices.DeleteFunc(slices.Clone(v.columns), func(c column[T]) bool { return c.wide && !wide })
}

func titles[T proto.Message](columns []column[T]) []string {
	var out []string
	for _, c := range columns {
		out = append(out, c.title)
	}
	return out
}

// blank is a cell that prints as nothing, not as "-".
const blank = " "

// cells are the rows of one item: one, unless a cell has several lines.
func cells[T proto.Message](columns []column[T], item T) [][]string {
	var rows [][]string
	set := func(line, col int, cell string) {
		for len(rows) <= line {
			rows = append(rows, slices.Repeat([]string{blank}, len(columns)))
		}
		rows[line][col] = cell
	}
	for i, c := range columns {
		cell := c.cell(item)
		if !c.lines {
			set(0, i, cell)
			continue
		}
		for line, text := range strings.Split(strings.TrimSuffix(cell, "\n"), "\n") {
			set(line, i, text)
		}
	}
	return rows
}

// printTable aligns rows; an empty cell prints as "-", so that every line has
// as many fields as the first.
func printTable(w io.Writer, rows [][]string) error {
	tw := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			if i > 0 {
				fmt.Fprint(tw, "\t")
			}
			fmt.Fprint(tw, cellText(cell))
		}
		fmt.Fprintln(tw)
	}
	return tw.Flush()
}

func cellText(cell string) string {
	switch cell {
	case "":
		return "-"
	case blank:
		return ""
	}
	return clean(cell)
}

// printMessages prints an array, also of none.
func printMessages[T proto.Message](o *options, items []T) error {
	parts := make([][]byte, 0, len(items))
	for _, it := range items {
		b, err := messageJSON(it)
		if err != nil {
			return err
		}
		parts = append(parts, b)
	}
	return printJSON(o, slices.Concat([]byte("["), bytes.Join(parts, []byte(",")), []byte("]")))
}

func printMessage(o *options, m proto.Message) error {
	b, err := messageJSON(m)
	if err != nil {
		return err
	}
	return printJSON(o, b)
}

// printLine prints a message as one line of JSON.
func printLine(o *options, m proto.Message) error {
	b, err := messageJSON(m)
	if err != nil {
		return err
	}
	var line bytes.Buffer
	if err := json.Compact(&line, b); err != nil {
		return err
	}
	line.WriteByte('\n')
	_, err = line.WriteTo(o.stdout)
	return err
}

// messageJSON is protojson with defaults, so that a script finds every field.
func messageJSON(m proto.Message) ([]byte, error) {
	return protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m)
}

// printJSON prints b, as YAML if asked. It formats b anew: protojson varies
// its white space on purpose from one binary to the next.
func printJSON(o *options, b []byte) error {
	if o.output == formatYAML {
		y, err := yaml.JSONToYAML(b)
		if err != nil {
			return err
		}
		_, err = o.stdout.Write(y)
		return err
	}
	var compact, out bytes.Buffer
	if err := json.Compact(&compact, b); err != nil {
		return err
	}
	if err := json.Indent(&out, compact.Bytes(), "", "  "); err != nil {
		return err
	}
	out.WriteByte('\n')
	_, err := out.WriteTo(o.stdout)
	return err
}

// printValue prints what is no message of the API.
func printValue(o *options, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return printJSON(o, b)
}
