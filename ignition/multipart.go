package ignition

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"net/textproto"
	"slices"
	"strings"
)

// MultipartType is what several parts for cloud-init are served as.
const MultipartType = "multipart/mixed"

// cloudPart is one of several parts for cloud-init.
type cloudPart struct {
	kind   string               // its MIME type
	header textproto.MIMEHeader // what else the operator's message says of it, that cloud-init reads
	body   string
	text   text  // where it stands
	at     lines // of its body

	editor *cloudEditor // of a #cloud-config; else nil
}

const (
	cloudConfigPart = "text/cloud-config"
	jinjaPart       = "text/jinja2"
)

// partKinds are by what cloud-init knows a part (handlers.INCLUSION_TYPES_MAP of
// 22.4 and 26.2), the longer before the shorter.
var partKinds = []struct{ begins, kind string }{
	{"#cloud-config-archive", "text/cloud-config-archive"},
	{"#cloud-config-jsonp", "text/cloud-config-jsonp"},
	{"#cloud-config", cloudConfigPart},
	{"#cloud-boothook", "text/cloud-boothook"},
	{"#part-handler", "text/part-handler"},
	{"#include-once", "text/x-include-once-url"},
	{"#include", "text/x-include-url"},
	{"#!", "text/x-shellscript"},
	{"## template: jinja", jinjaPart},
}

func kindOf(body string) string {
	for _, k := range partKinds {
		if strings.HasPrefix(body, k.begins) {
			return k.kind
		}
	}
	return ""
}

// isMessage reports whether a text is a MIME message, as cloud-init finds out.
func isMessage(s string) bool {
	head := strings.ToLower(s[:min(len(s), 4096)])
	return (strings.HasPrefix(head, "content-type:") || strings.HasPrefix(head, "mime-version:")) && strings.Contains(head, "mime-version:")
}

// isJinja reports whether cloud-init itself fills a part in, with words that are
// pilotlight's too. It is left as it is.
func isJinja(source string) bool { return kindOf(source) == jinjaPart }

// partsOf reads what cloud_parts: has become, of which one may be a message of several.
func partsOf(t text, rendered string, at lines) ([]cloudPart, []Problem) {
	if isMessage(rendered) {
		return messageParts(t, rendered, at)
	}
	kind := kindOf(rendered)
	if kind == "" {
		first, _, _ := strings.Cut(rendered, "\n")
		return nil, []Problem{t.problem(1, "", "its first line is %.40q, by which cloud-init does not know what it is: begin it with #cloud-config, #!/bin/sh, #cloud-boothook, ## template: jinja, #include or #part-handler", first)}
	}
	p := cloudPart{kind: kind, body: rendered, text: t, at: at}
	return []cloudPart{p}, nil
}

// keptHeaders are what cloud-init reads of a part beside its type.
var keptHeaders = []string{"Content-Disposition", "Merge-Type", "X-Merge-Type", "Launch-Index"}

// messageParts takes a MIME message apart.
func messageParts(t text, rendered string, at lines) ([]cloudPart, []Problem) {
	m, err := mail.ReadMessage(strings.NewReader(rendered))
	if err != nil {
		return nil, []Problem{t.problem(1, "", "it begins as a MIME message, and is none: %v", err)}
	}
	b := &taker{text: t, whole: rendered, at: at}
	b.take(textproto.MIMEHeader(m.Header), m.Body, 0)
	if len(b.parts)+len(b.problems) == 0 {
		b.refuse("the message has none: write --BOUNDARY before each part, and --BOUNDARY-- behind the last")
	}
	return b.parts, b.problems
}

// taker takes parts out of a message.
type taker struct {
	text     text
	whole    string
	at       lines
	parts    []cloudPart
	problems []Problem
}

func (b *taker) refuse(format string, args ...any) {
	b.problems = append(b.problems, b.text.problem(0, fmt.Sprintf("part %d", len(b.parts)+1), format, args...))
}

// deepest is how many messages may be in each other.
const deepest = 4

func (b *taker) take(h textproto.MIMEHeader, r io.Reader, depth int) {
	kind, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil && h.Get("Content-Type") != "" {
		b.refuse("its Content-Type is none: %v", err)
		return
	}
	if !strings.HasPrefix(kind, "multipart/") {
		b.takeOne(kind, params["charset"], h, r)
		return
	}
	if depth++; depth > deepest {
		b.refuse("messages are more than %d deep in each other: take them apart", deepest)
		return
	}
	parts := multipart.NewReader(r, params["boundary"])
	for {
		p, err := parts.NextRawPart()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			b.refuse("the message does not go on there: %v: write --BOUNDARY before each part, and --BOUNDARY-- behind the last", err)
			return
		}
		b.take(p.Header, p, depth)
	}
}

// takeOne takes a part that is no message.
func (b *taker) takeOne(kind, charset string, h textproto.MIMEHeader, r io.Reader) {
	switch encoding := strings.ToLower(h.Get("Content-Transfer-Encoding")); encoding {
	case "base64":
		r = base64.NewDecoder(base64.StdEncoding, r)
	case "quoted-printable":
		r = quotedprintable.NewReader(r)
	case "", "7bit", "8bit", "binary":
	default:
		b.refuse("Content-Transfer-Encoding %q is not known: write base64", encoding)
		return
	}
	raw, err := io.ReadAll(r)
	body := string(raw)
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		b.refuse("the message ends in it: write --BOUNDARY-- behind its last part")
		return
	case err != nil:
		b.refuse("it cannot be decoded: %v", err)
		return
	case strings.HasPrefix(body, "\x1f\x8b"):
		b.refuse("it is packed by gzip: write what it was packed of; what has to be small pilotlight packs itself")
		return
	case charset != "" && !strings.EqualFold(charset, "utf-8") && !strings.EqualFold(charset, "us-ascii"):
		b.refuse("charset %q is not known: write utf-8", charset)
		return
	}
	if slices.Contains([]string{"", "text/plain", "text/x-not-multipart", "text/x-shellscript"}, kind) {
		if known := kindOf(body); known != "" {
			kind = known
		}
	}
	if !strings.HasPrefix(kind, "text/") || kind == "text/plain" {
		b.refuse("cloud-init does not know what a part of type %q is: write text/cloud-config, text/x-shellscript ...", kind)
		return
	}
	p := cloudPart{kind: kind, body: body, text: b.text, header: textproto.MIMEHeader{}}
	for _, key := range keptHeaders {
		if v := h.Get(key); v != "" {
			p.header.Set(key, v)
		}
	}
	if i := strings.Index(b.whole, body); i >= 0 && body != "" {
		before := strings.Count(b.whole[:i], "\n")
		p.at = func() []int {
			table := b.at()
			return table[min(before, len(table)):]
		}
	} else {
		p.at = func() []int { return []int{} }
	}
	b.parts = append(b.parts, p)
}

// writeMessage writes parts as one MIME message. Its boundary is made of what is in
// it, so that it is the same each time and stands nowhere in it.
func writeMessage(parts []cloudPart) []byte {
	sum := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(sum, "%q", p.body)
	}
	boundary := fmt.Sprintf("=====pilotlight-%.16x=====", sum.Sum(nil))
	var b strings.Builder
	fmt.Fprintf(&b, "Content-Type: %s; boundary=%q\nMIME-Version: 1.0\n", MultipartType, boundary)
	for _, p := range parts {
		body, encoding := p.body, "7bit"
		if !arrivesPlain(body) {
			body, encoding = quotedPrintable(body), "quoted-printable"
		}
		fmt.Fprintf(&b, "\n--%s\nContent-Type: %s; charset=\"utf-8\"\nMIME-Version: 1.0\nContent-Transfer-Encoding: %s\n", boundary, p.kind, encoding)
		for _, key := range keptHeaders {
			if v := p.header.Get(key); v != "" {
				fmt.Fprintf(&b, "%s: %s\n", key, v)
			}
		}
		b.WriteString("\n" + body)
	}
	fmt.Fprintf(&b, "\n--%s--\n", boundary)
	return []byte(b.String())
}

// arrivesPlain reports whether a text arrives as it is: Python's reader of messages makes
// something else of what is not ASCII, or has a carriage return.
func arrivesPlain(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r > '~' || r == '\r' })
}

// quotedPrintable encodes a text without breaking its lines, so that what is filled
// in later may be of any length.
func quotedPrintable(s string) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c > '~', c == '=', c == '\r', (c == ' ' || c == '\t') && (i+1 == len(s) || s[i+1] == '\n'):
			fmt.Fprintf(&b, "=%02X", c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}
