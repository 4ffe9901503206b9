package boot

import (
	"fmt"
	"sync"
	"testing"

	"github.com/pilotlight/pilotlight/cluster"
)

// What is kept of arguments that were parsed stays bounded, however often documents
// change; and it is the right one, whoever asks beside.
func TestParsedArguments(t *testing.T) {
	var g sync.WaitGroup
	for range 4 {
		g.Go(func() {
			for i := range parsedMost + 10 {
				want := fmt.Sprintf("n=%d-web", i)
				if got, err := expandArg(fmt.Sprintf("n=%d-{{.Host.Name}}", i), Facts{Host: &cluster.Host{Meta: cluster.Meta{Name: "web"}}}); got != want || err != nil {
					t.Errorf("%q is %q: %v", want, got, err)
					return
				}
			}
		})
	}
	g.Wait()
	if n := len(parsed.byText); n > parsedMost {
		t.Errorf("%d are kept", n)
	}
}
