// Command site is the lab's site: one page that shows where it runs and what
// it was given. It is static, so that its image holds nothing else.
//
// The page shows the secret's fingerprint, never its value. With -health the
// same binary asks a running one how it is: an image FROM scratch has no curl.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// version is set by the linker: each version of the site is an image of its own.
var version = "v0"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "site:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("site", flag.ContinueOnError)
	addr := flags.String("listen", ":8080", "address to listen on")
	secret := flags.String("secret", "/run/secrets/page-token", "file of the secret")
	health := flags.Bool("health", false, "ask the site that runs here how it is, and exit")
	url := flags.String("ask", "", "ask for this URL in place of listening, and exit")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *health {
		*url = "http://127.0.0.1" + *addr + "/healthz"
	}
	if *url != "" {
		return ask(ctx, *url)
	}
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("who am I: %w", err)
	}
	page := &page{Host: host, Version: version, secret: *secret}
	return serve(ctx, *addr, page.handler())
}

func serve(ctx context.Context, addr string, h http.Handler) error {
	server := &http.Server{Addr: addr, Handler: h, ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	fmt.Printf("site %s listens on %s\n", version, addr)
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	err := server.Shutdown(grace)
	if e := <-failed; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	return err
}

// ask is the health check, and how the lab sees what the container reaches: the exit
// code is the answer.
func ask(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return nil
}
