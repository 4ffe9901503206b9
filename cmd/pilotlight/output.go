package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// outputFlag adds -o to a verb that prints things.
func (c *cli) outputFlag(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&c.output, "output", "o", "table", "table, json or yaml")
}

// print writes v as -o says. t is called for a table only.
func (c *cli) print(v any, t func() table) error {
	switch c.output {
	case "json":
		e := json.NewEncoder(c.out)
		e.SetIndent("", "  ")
		return e.Encode(v)
	case "yaml":
		body, err := json.Marshal(v)
		if err == nil {
			body, err = yaml.JSONToYAML(body)
		}
		if err != nil {
			return fmt.Errorf("write YAML: %w", err)
		}
		_, err = c.out.Write(body)
		return err
	case "table":
		return t().write(c.out)
	}
	return usageError{fmt.Errorf("-o %s is not one of table, json, yaml", c.output)}
}

// table is rows below a header. What does not fit a narrow terminal keeps its
// last column, which is what people are looking for, on lines of its own below.
type table struct {
	header []string
	rows   [][]string
	empty  string // what to say when there are no rows, with what to type
}

const gap = 2

func (t table) write(w io.Writer) error {
	text := t.empty + "\n"
	if len(t.rows) > 0 || t.empty == "" {
		text = t.text(terminalWidth(w))
	}
	_, err := io.WriteString(w, text)
	return err
}

// text lays the table out for a terminal of so many columns; 0 is no terminal.
func (t table) text(limit int) string {
	widths := make([]int, len(t.header))
	all := [][]string{t.header}
	for _, row := range t.rows {
		line := make([]string, len(row))
		for i, cell := range row {
			line[i] = strings.Join(strings.Fields(cell), " ") // a row is a line
		}
		all = append(all, line)
	}
	for _, row := range all {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for _, row := range all {
		var head strings.Builder
		last := len(row) - 1
		for i, cell := range row[:last] {
			head.WriteString(cell + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+gap))
		}
		line := strings.TrimRight(head.String()+row[last], " ")
		if limit <= 0 || utf8.RuneCountInString(line) <= limit {
			b.WriteString(line + "\n")
			continue
		}
		b.WriteString(shorten(strings.TrimRight(head.String(), " "), limit) + "\n")
		for _, more := range fold(row[last], limit-2*gap) {
			b.WriteString(shorten(strings.Repeat(" ", 2*gap)+more, limit) + "\n")
		}
	}
	return b.String()
}

// fold breaks a text between its words into lines of at most width, if they let it.
func fold(text string, width int) (lines []string) {
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
			lines, line = append(lines, line), ""
		}
		line = strings.TrimSpace(line + " " + word)
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}

func shorten(s string, limit int) string {
	if limit <= 0 || utf8.RuneCountInString(s) <= limit {
		return s
	}
	return string([]rune(s)[:limit-1]) + "…"
}

// terminalWidth returns 0 when w is no terminal: what goes into a file or a
// pipe is never cut.
func terminalWidth(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	return int(size.Col)
}

// ago says how long something is past, in one unit: 5s, 3m, 7h, 2d.
func ago(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	d := time.Since(t)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", max(0, int(d.Seconds())))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// dash stands for what is not there.
func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
