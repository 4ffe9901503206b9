package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/api"
	"github.com/pilotlight/pilotlight/cluster/manifest"
)

// The exit codes of every verb.
const (
	exitOK      = 0
	exitFailed  = 1
	exitUsage   = 2
	exitChanges = 3 // diff: something would change
	exitPartly  = 4 // import: something did not map
)

const defaultData = "/var/lib/pilotlight"

// cli is what all verbs share.
type cli struct {
	env      []string
	in       io.Reader
	out, err io.Writer

	data   string // --data
	server string // --server
	cert   string // --cert
	output string // -o
}

// exitError ends a verb with a code of its own and nothing more to say.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit %d", int(e)) }

// usageError is a mistake in how a verb was called.
type usageError struct{ error }

func newRoot(c *cli) *cobra.Command {
	root := &cobra.Command{
		Use:   "pilotlight",
		Short: "Boot machines from the network into the containers that they are there for",
		Long: `pilotlight boots machines (DHCP, TFTP, HTTP), tells each what it is (Ignition,
cloud-config, SSH keys), admits it to an etcd cluster, and keeps its site's
containers running there with their secrets in place.

Start with:   pilotlight serve DIR
Exit codes:   0 done; 1 failed; 2 wrong usage; 3 diff found changes;
              4 import left something out.`,
		SilenceErrors: true, SilenceUsage: true, Version: version,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.SetVersionTemplate("pilotlight {{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w\nTry: %s --help", err, cmd.CommandPath())}
	})
	f := root.PersistentFlags()
	f.StringVar(&c.data, "data", c.getenv("PILOTLIGHT_DATA", defaultData), "the server's data directory; the operator's certificate is found there (env PILOTLIGHT_DATA)")
	f.StringVar(&c.server, "server", c.getenv("PILOTLIGHT_SERVER", ""), "the server, https://ADDRESS:8443; default: the one of --data (env PILOTLIGHT_SERVER)")
	f.StringVar(&c.cert, "cert", c.getenv("PILOTLIGHT_CERT", ""), "the operator's certificate; operator.key and ca.crt are beside it (env PILOTLIGHT_CERT)")
	root.AddCommand(
		newServe(c), newApply(c), newDiff(c), newGet(c), newDelete(c), newRender(c), newExplain(c), newUserdata(c),
		newHost(c), newSecret(c), newSite(c), newBoot(c), newAudit(c), newServer(c), newImage(c), newImport(c), newMatchbox(c),
	)
	return root
}

func (c *cli) getenv(name, fallback string) string {
	for _, e := range c.env {
		if v, ok := strings.CutPrefix(e, name+"="); ok && v != "" {
			return v
		}
	}
	return fallback
}

// finish says what went wrong, and returns the exit code for it.
func (c *cli) finish(err error) int {
	var code exitError
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &code):
		return int(code)
	case errors.As(err, &usage) || strings.HasPrefix(err.Error(), "unknown command"):
		fmt.Fprintln(c.err, "pilotlight: "+err.Error())
		return exitUsage
	}
	var mistakes manifest.Mistakes
	if errors.As(err, &mistakes) {
		fmt.Fprintln(c.err, mistakes.Error())
		fmt.Fprintf(c.err, "pilotlight: %s; nothing was changed\n", plural(len(mistakes), "mistake"))
		return exitFailed
	}
	if errors.Is(err, context.Canceled) {
		fmt.Fprintln(c.err, "pilotlight: interrupted")
		return exitFailed
	}
	fmt.Fprintln(c.err, "pilotlight: "+err.Error())
	return exitFailed
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}

// args wraps cobra's checks of arguments so that they end in a usage error
// that shows the line to type.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{fmt.Errorf("%w\nUsage: %s", err, cmd.UseLine())}
		}
		return nil
	}
}

// group makes a command that is nothing without one of those below it.
func group(cmd *cobra.Command, below ...*cobra.Command) *cobra.Command {
	cmd.AddCommand(below...)
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		if len(a) == 0 {
			return cmd.Help()
		}
		var names []string
		for _, b := range cmd.Commands() {
			names = append(names, b.Name())
		}
		hint := "it is one of " + strings.Join(names, ", ")
		if near := cluster.Nearest(a[0], names); near != "" {
			hint = fmt.Sprintf("did you mean %s?", near)
		}
		return usageError{fmt.Errorf("unknown command %q for %q; %s\nTry: %s --help", a[0], cmd.CommandPath(), hint, cmd.CommandPath())}
	}
	return cmd
}

// client returns the API's client.
func (c *cli) client() (*api.Client, error) {
	server, config, err := c.connection()
	if err != nil {
		return nil, err
	}
	return api.NewClient(server, config), nil
}

// mustBe says that there is no such document, where nothing is known of it.
func (c *cli) mustBe(ctx context.Context, client *api.Client, kind cluster.Kind, name string) error {
	docs, err := client.Documents(ctx, kind, "")
	if err != nil {
		return err
	}
	var names []string
	for _, d := range docs {
		if names = append(names, d.Ref().Name); d.Ref().Name == name {
			return nil
		}
	}
	hint := fmt.Sprintf("`pilotlight get %s` lists what is there", kind)
	if near := cluster.Nearest(name, names); near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
	}
	return fmt.Errorf("there is no %s %q; %s", kind, name, hint)
}

// connection returns the server's address and how to reach it, with the
// certificate of --cert or --data.
func (c *cli) connection() (string, *tls.Config, error) {
	certFile := c.cert
	if certFile == "" {
		certFile = filepath.Join(c.data, "operator", "operator.crt")
	}
	dir := filepath.Dir(certFile)
	cert, err := tls.LoadX509KeyPair(certFile, strings.TrimSuffix(certFile, ".crt")+".key")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil, fmt.Errorf("no operator's certificate at %s: run this on the server, with its --data; elsewhere copy DATA/operator from there and give --cert DIR/operator.crt", certFile)
	case errors.Is(err, fs.ErrPermission):
		return "", nil, fmt.Errorf("%w: the operator's key is for root: use sudo, or copy %s to where you may read it and give --cert", err, dir)
	case err != nil:
		return "", nil, fmt.Errorf("load the operator's certificate: %w", err)
	}
	ca, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return "", nil, fmt.Errorf("read the authority to trust: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return "", nil, fmt.Errorf("%s holds no certificate in PEM", filepath.Join(dir, "ca.crt"))
	}
	server := c.server
	if server == "" {
		text, err := os.ReadFile(filepath.Join(dir, "server"))
		if err != nil {
			return "", nil, fmt.Errorf("which server is not known: give --server https://ADDRESS:8443 (%w)", err)
		}
		server = strings.TrimSpace(string(text))
	}
	return server, &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, RootCAs: pool}, nil
}
