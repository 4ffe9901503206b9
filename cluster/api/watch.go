package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

// stream is an answer that goes on until somebody ends it.
type stream func(http.ResponseWriter)

// recentBoot is how old the last step of a boot may be for it to be told to
// whoever begins to watch.
const recentBoot = 15 * time.Minute

// watchBoots tells of boots as they go on: one JSON object a line, a boot each,
// again whenever something came to it.
func (s *Server) watchBoots(r *http.Request, _ string) (any, error) {
	host := cluster.HostName(r.FormValue("host"))
	if host != "" {
		if _, ok := s.Snapshot().Host(host); !ok {
			return nil, fail(http.StatusNotFound, "there is no host %q; `pilotlight host list` shows the hosts", host)
		}
	}
	return stream(func(w http.ResponseWriter) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		if s.Running != nil {
			defer context.AfterFunc(s.Running, cancel)()
		}
		w.Header().Set("Content-Type", "application/x-ndjson")
		out, flush := json.NewEncoder(w), http.NewResponseController(w).Flush
		tell := func(b cluster.Boot) {
			if out.Encode(b) != nil || flush() != nil {
				cancel() // the asker is gone
			}
		}
		before := func() { // what went on when the asker came
			_ = flush() // so that the asker knows that it begins
			boots, err := s.Store.Boots(ctx, host)
			if err != nil {
				s.log().Warn("boots that go on are not told to who begins to watch", "err", err)
			}
			for _, b := range boots {
				if n := len(b.Events); n > 0 && time.Since(b.Events[n-1].At) < recentBoot {
					tell(b)
				}
			}
		}
		if err := s.Store.WatchBoots(ctx, host, before, tell); err != nil && ctx.Err() == nil {
			s.log().Warn("watching boots ended", "err", err)
		}
	}), nil
}

// endless makes a call whose answer comes bit by bit, for as long as it takes. The
// caller closes its body.
func (c *Client) endless(req *http.Request) (*http.Response, error) {
	patient := *c.http
	patient.Timeout = 0
	res, err := patient.Do(req)
	if err != nil {
		return nil, c.unreachable(err)
	}
	if res.StatusCode == http.StatusOK {
		return res, nil
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", c.server, err)
	}
	return nil, c.refused(res, text)
}

// WatchBoots calls each with the boots that go on, and with each again whenever
// something comes to it, until ctx ends or the server does.
func (c *Client) WatchBoots(ctx context.Context, host string, each func(cluster.Boot)) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.server+"/v1/boots/watch?"+url.Values{"host": {host}}.Encode(), http.NoBody)
	if err != nil {
		return err
	}
	res, err := c.endless(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	lines := bufio.NewReader(res.Body)
	for {
		line, err := lines.ReadBytes('\n')
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, io.EOF):
			return errors.New("the server has stopped; type it again when it runs")
		case err != nil:
			return fmt.Errorf("the connection to the server ended: %w", err)
		}
		var b cluster.Boot
		if err := json.Unmarshal(line, &b); err != nil {
			return fmt.Errorf("what the server says is no boot: %w", err)
		}
		each(b)
	}
}
