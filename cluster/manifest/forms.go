package manifest

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// written says how each honoured key is written. It stands in the place of
// compose-go's own words, which tell of its types ("expected a map or struct")
// and may quote a value that was to be secret.
var written = map[string]string{
	"cap_add":           `write a list of capabilities: [NET_BIND_SERVICE]`,
	"cap_drop":          `write a list; every capability that cap_add: does not name is dropped anyway`,
	"command":           `write a list of words, ["serve", "--port=80"], or one line that is split like a shell's; nothing in it is expanded`,
	"cpus":              `write a number of cores: 0.5`,
	"depends_on":        `write a list of services, each once: [database], or each with a condition: service_started, service_healthy or service_completed_successfully`,
	"entrypoint":        `write a list of words, ["/bin/server"], or one line that is split like a shell's; nothing in it is expanded`,
	"environment":       `write NAME: value below it, each value a text, a number or true or false; or a list of NAME=value`,
	"healthcheck":       `write test: [CMD, program, argument] or test: a line for the shell, with interval:, timeout: and start_period: like 10s, and retries: a number; or disable: true`,
	"image":             `write REGISTRY/NAME@sha256:DIGEST`,
	"init":              `write true or false`,
	"labels":            `write NAME: text below it, or a list of NAME=text`,
	"mem_limit":         `write a number with b, k, m or g: 512m`,
	"pids_limit":        `write a whole number: 512`,
	"ports":             `write "CONTAINER", "HOST:CONTAINER" or "ADDRESS:HOST:CONTAINER", each a number from 1 to 65535, with /udp after it where it is not TCP: "80:8080"; or target:, published:, host_ip: and protocol:`,
	"read_only":         `write true or false`,
	"restart":           `write no, always, unless-stopped, on-failure or on-failure:N, in quotes: "no"`,
	"secrets":           `write a list of names, or of source:, target:, uid:, gid: and mode: (0400)`,
	"security_opt":      `leave it out: no-new-privileges is always on`,
	"stop_grace_period": `write a duration: 10s or 1m30s`,
	"stop_signal":       `write the signal's name: SIGTERM`,
	"tmpfs":             `write a path, or a list of PATH or PATH:OPTIONS: /tmp:size=64m`,
	"user":              `write "UID" or "UID:GID", in quotes`,
	"volumes":           `write NAME:/PATH, or /PATH/ON/THE/HOST:/PATH, with :ro after it to be read only; or type: volume or bind, source:, target: and read_only:`,
	"working_dir":       `write an absolute path`,
}

var serviceForm = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_-]{0,62}$`)

// checkField has compose-go look at one field, and notes what it does not
// understand: at the items that it is about, where they can be told.
func (d *decoder) checkField(at0, key string, value any) (ok bool) {
	if _, err := loadService("service", map[string]any{key: value}); err == nil {
		return true
	}
	where := faulty(key, value)
	if len(where) == 0 {
		where = []string{""}
	}
	for _, w := range where {
		d.wrong(at0+"."+key+w, "is not understood; %s", written[key])
	}
	return false
}

// faulty returns which items of a list, or keys of a mapping, are not
// understood even by themselves.
func faulty(key string, value any) (where []string) {
	switch value := value.(type) {
	case []any:
		for i, item := range value {
			if _, err := loadService("service", map[string]any{key: []any{item}}); err != nil {
				where = append(where, fmt.Sprintf("[%d]", i))
			}
		}
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(value)) {
			if _, err := loadService("service", map[string]any{key: map[string]any{k: value[k]}}); err != nil {
				where = append(where, "."+k)
			}
		}
	}
	return where
}

// unhonoured refuses by name what compose-go would take in silence, and the
// agent would not do.
func (d *decoder) unhonoured(at0 string, raw map[string]any) {
	ports, _ := raw["ports"].([]any)
	for i, p := range ports {
		if text, ok := p.(string); ok && strings.Contains(text, "-") {
			d.wrong(fmt.Sprintf("%s.ports[%d]", at0, i), "%q is a range of ports; write a line for each", text)
		}
	}
	volumes, _ := raw["volumes"].([]any)
	targets := map[string]bool{}
	for i, v := range volumes {
		field, target := fmt.Sprintf("%s.volumes[%d]", at0, i), ""
		switch v := v.(type) {
		case string:
			target = d.shortVolume(field, v)
		case map[string]any:
			target, _ = v["target"].(string)
			for _, k := range slices.Sorted(maps.Keys(v)) {
				if !slices.Contains([]string{"type", "source", "target", "read_only"}, k) {
					d.wrong(field+"."+k, "is not done by the agent; it does type:, source:, target: and read_only:")
				}
			}
		}
		if targets[target] && target != "" {
			d.wrong(field, "is the second volume at %s; keep one", target)
		}
		targets[target] = true
	}
}

// shortVolume returns where a volume in the short form is in the container.
func (d *decoder) shortVolume(field, text string) (target string) {
	parts := strings.Split(text, ":")
	if len(parts) < 2 {
		return text
	}
	if len(parts) > 2 {
		for _, option := range strings.Split(parts[len(parts)-1], ",") {
			if option != "ro" && option != "rw" {
				d.wrong(field, "option %q is not done by the agent; it does ro and rw", option)
			}
		}
	}
	return parts[1]
}

// together notes what compose-go does not understand although each field by
// itself was understood. Its own words are of no use and may quote a value.
func (d *decoder) together(at0 string, raw map[string]any) {
	keys := slices.Sorted(maps.Keys(raw))
	d.wrong(at0, "is not understood as a whole: check how %s go together", strings.Join(keys, ", "))
}
