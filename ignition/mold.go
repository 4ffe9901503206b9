package ignition

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"hash"
	"regexp"
	"strconv"
	"strings"
	"sync"

	baseutil "github.com/coreos/butane/base/util"
	"gopkg.in/yaml.v3"
)

// outline is a Butane config in which the texts of files (storage.files,
// contents.inline) are replaced by names. Neither Butane nor Ignition looks into
// them, so all that is found out of one outline is true of every config that
// differs from it in such texts only, as those of the hosts of a profile mostly do.
type outline struct {
	doc   *yaml.Node
	texts []string
	key   [32]byte
}

const (
	textHole = "PILOTLIGHT-TEXT-"
	maxTexts = 10_000
)

// outlineOf returns nothing where there is no such text, and where the YAML is of a
// kind that is better left as it is.
func outlineOf(rendered string) *outline {
	var doc yaml.Node
	if yaml.Unmarshal([]byte(rendered), &doc) != nil || len(doc.Content) != 1 {
		return nil
	}
	root := doc.Content[0]
	variant, version := child(root, "variant"), child(root, "version")
	if variant == nil || version == nil || variant.Value == "fcos" && version.Value == "1.0.0" { // which never compresses
		return nil
	}
	o := &outline{doc: &doc}
	if files := below2(root, "storage", "files"); files != nil && files.Kind == yaml.SequenceNode {
		for _, f := range files.Content {
			o.takeText(child(f, "contents"))
		}
	}
	if len(o.texts) == 0 || len(o.texts) > maxTexts {
		return nil
	}
	h := sha256.New()
	if !hashTree(h, &doc) {
		return nil
	}
	o.key = [32]byte(h.Sum(nil))
	return o
}

func below2(n *yaml.Node, a, b string) *yaml.Node {
	if n = child(n, a); n != nil {
		n = child(n, b)
	}
	return n
}

// takeText makes {inline: TEXT} what Butane makes of it, with a name for the text.
func (o *outline) takeText(contents *yaml.Node) {
	if contents == nil || contents.Kind != yaml.MappingNode || len(contents.Content) != 2 {
		return
	}
	key, value := contents.Content[0], contents.Content[1]
	if key.Value != "inline" || !plainNode(key) || value.Kind != yaml.ScalarNode || value.ShortTag() != "!!str" || !plainNode(value) {
		return
	}
	scalar := func(text string) *yaml.Node {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Style: yaml.DoubleQuotedStyle, Value: text}
	}
	contents.Content = []*yaml.Node{
		scalar("compression"), scalar(""),
		scalar("source"), scalar(fmt.Sprintf("data:,%s%d.", textHole, len(o.texts))),
	}
	o.texts = append(o.texts, value.Value)
}

// plainNode reports whether a node is neither an anchor nor of a tag that was written.
func plainNode(n *yaml.Node) bool { return n.Anchor == "" && n.Style&yaml.TaggedStyle == 0 }

// hashTree writes a tree to h so that no two that differ write the same; where a
// string stands, and how it is quoted, is no difference. It reports whether the tree
// is of plain nodes only.
func hashTree(h hash.Hash, n *yaml.Node) bool {
	if n.Kind == yaml.AliasNode || !plainNode(n) || n.ShortTag() == "!!merge" {
		return false
	}
	n.HeadComment, n.LineComment, n.FootComment = "", "", ""
	quoted := n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0
	fmt.Fprintf(h, "%d %s %t %d %d %s", n.Kind, n.ShortTag(), quoted, len(n.Content), len(n.Value), n.Value)
	for _, c := range n.Content {
		if !hashTree(h, c) {
			return false
		}
	}
	return true
}

// text is the outline as YAML; "" where the encoder does not write what was read.
func (o *outline) text() string {
	text, err := yaml.Marshal(o.doc)
	if err != nil {
		return ""
	}
	var back yaml.Node
	h := sha256.New()
	if yaml.Unmarshal(text, &back) != nil || !hashTree(h, &back) || [32]byte(h.Sum(nil)) != o.key {
		return ""
	}
	return string(text)
}

// mold is what an outline becomes, with pilotlight's part: an Ignition config with
// the texts missing, and what each version of the spec cannot say of it.
type mold struct {
	parts [][]byte // around each compression and each source
	order []int    // which text is between: of parts 2i+1 and 2i+2
	needs needs
}

var resourceForm = regexp.MustCompile(`"compression": "(",\s+"source": ")data:,` + textHole + `(\d+)\."`)

// newMold returns nothing where there is anything to say of the outline: that is
// said with the lines of the config itself.
func newMold(t text, o *outline, p part, keys []string) *mold {
	rendered := o.text()
	if rendered == "" {
		return nil
	}
	s := &shape{text: t, lowest: lowest}
	body, needs, ok := s.draw(rendered, nil, p, keys)
	if !ok || len(s.problems) > 0 {
		return nil
	}
	if s.finish(body, needs, p) != nil || s.check() != nil {
		return nil
	}
	found := resourceForm.FindAllSubmatchIndex(body, -1)
	if len(found) != len(o.texts) || bytes.Count(body, []byte(textHole)) != len(o.texts) {
		return nil
	}
	m := &mold{needs: needs}
	from := 0
	for _, at := range found {
		i, err := strconv.Atoi(string(body[at[4]:at[5]]))
		if err != nil || i >= len(o.texts) {
			return nil
		}
		m.order = append(m.order, i)
		m.parts = append(m.parts, body[from:at[2]], body[at[2]:at[3]])
		from = at[1] - 1 // the quote behind the source
	}
	m.parts = append(m.parts, body[from:])
	return m
}

func (m *mold) size() int64 {
	n := int64(1024)
	if m != nil {
		for _, p := range m.parts {
			n += int64(len(p)) + 24
		}
	}
	return n
}

// fill returns the config with the texts in it.
func (m *mold) fill(texts []string) ([]byte, error) {
	var b bytes.Buffer
	for i, which := range m.order {
		source, compression, err := dataURL(texts[which])
		if err != nil {
			return nil, err
		}
		b.Write(m.parts[2*i])
		b.WriteString(compression)
		b.Write(m.parts[2*i+1])
		b.WriteString(source)
	}
	b.Write(m.parts[len(m.parts)-1])
	return b.Bytes(), nil
}

// compressors are kept, since one is most of a megabyte and Butane makes one for
// each file.
var compressors = sync.Pool{New: func() any {
	w, _ := gzip.NewWriterLevel(nil, gzip.BestCompression) // a level that there is
	return w
}}

// leastGzip is how many bytes no gzip is shorter than: its header, its trailer and
// an empty block.
const leastGzip = 10 + 8 + 2

// dataURL is Butane's MakeDataURL of a text that it may compress: the shortest of
// three forms.
func dataURL(text string) (source, compression string, err error) {
	source, _, err = baseutil.MakeDataURL([]byte(text), nil, false)
	if err != nil {
		return "", "", err
	}
	const scheme, form, named = "data:", ";base64,", "gzip"
	longest := len(source) - len(scheme) - len(form) - len(named) // below which base64 has to stay
	if base64.StdEncoding.EncodedLen(leastGzip) >= longest {
		return source, "", nil
	}
	var packed bytes.Buffer
	w := compressors.Get().(*gzip.Writer)
	defer compressors.Put(w)
	w.Reset(&packed)
	if _, err = strings.NewReader(text).WriteTo(w); err == nil {
		err = w.Close()
	}
	if err != nil {
		return "", "", err
	}
	if base64.StdEncoding.EncodedLen(packed.Len()) >= longest {
		return source, "", nil
	}
	return scheme + form + base64.StdEncoding.EncodeToString(packed.Bytes()), named, nil
}
