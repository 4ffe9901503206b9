package manifest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pilotlight/pilotlight/cluster"
)

// TestManyDocuments: each document of a file is read, and each mistake has its line,
// whatever stands between them.
func TestManyDocuments(t *testing.T) {
	policy := func(i int) string { return fmt.Sprintf("kind: policy\nname: p%d\nregistries: [a]\n", i) }
	for what, between := range map[string]string{
		"a line":         "---\n",
		"an empty one":   "---\n---\n",
		"empty ones":     "---\n---\n# nothing\n---\n",
		"an end":         "...\n---\n",
		"a comment":      "# one more\n--- # here\n",
		"a literal text": "---\nkind: profile\nname: q%d\ngeneric: |\n  ---\n  kind: policy\n---\n",
	} {
		var b strings.Builder
		var lines []int
		for i := range 20 {
			if i > 0 {
				if strings.Contains(between, "%d") {
					fmt.Fprintf(&b, between, i)
				} else {
					b.WriteString(between)
				}
			}
			b.WriteString(policy(i))
			if i%5 == 3 {
				b.WriteString("wrong: here\n")
				lines = append(lines, strings.Count(b.String(), "\n"))
			}
		}
		set := &Set{origins: map[cluster.Ref]*origin{}}
		set.parse("f.yaml", []byte(b.String()))
		policies := 0
		for _, d := range set.Documents {
			if strings.HasPrefix(d.Ref().Name, "p") {
				policies++
			}
		}
		var found []int
		for _, m := range set.mistakes {
			found = append(found, m.Line)
		}
		if policies != 20 || fmt.Sprint(found) != fmt.Sprint(lines) {
			t.Errorf("with %s between them: %d of 20 documents, mistakes in lines %v, not %v:\n%v", what, policies, found, lines, set.mistakes)
		}
	}
}

// TestSyntaxErrorHasItsLine: in whichever document it is.
func TestSyntaxErrorHasItsLine(t *testing.T) {
	for text, line := range map[string]int{
		"kind: policy\nname: a\n---\nkind: [\n---\nkind: policy\nname: b\n":           4,
		"---\nkind: policy\nname: a\nregistries: [a]\n---\nkind: policy\nname: \"b\n": 6,
	} {
		set := &Set{origins: map[cluster.Ref]*origin{}}
		set.parse("f.yaml", []byte(text))
		if len(set.mistakes) != 1 || set.mistakes[0].Line < line || !strings.Contains(set.mistakes[0].Message, "is not YAML") {
			t.Errorf("%q: %v", text, set.mistakes)
		}
	}
}
