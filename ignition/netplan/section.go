package netplan

import (
	"fmt"
	"strings"
)

// section is a part of an INI file, as systemd and NetworkManager have them.
type section struct {
	name  string
	lines []string
}

// set adds a line, unless there is nothing to say.
func (s *section) set(key string, value any) {
	switch v := value.(type) {
	case string:
		if v == "" {
			return
		}
	case int:
		if v == 0 {
			return
		}
	case bool:
		if !v {
			return
		}
	}
	s.lines = append(s.lines, fmt.Sprintf("%s=%v", key, value))
}

// write puts sections that say something into one text.
func write(sections ...*section) string {
	var b strings.Builder
	for _, s := range sections {
		if len(s.lines) == 0 {
			continue
		}
		if b.Len() > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "[%s]\n%s\n", s.name, strings.Join(s.lines, "\n"))
	}
	return b.String()
}
