package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"os"
	"syscall"
)

// page is what the site shows.
type page struct {
	Host    string // of the container
	Version string
	secret  string // the file
}

// secret is what may be shown of the secret.
type secret struct {
	Fingerprint string // the beginning of the value's sha256
	Mode        string // as ls shows it
	ReadOnly    bool   // the file cannot be opened for writing
	Memory      bool   // it lies on tmpfs
	Problem     string
}

const tmpfsMagic = 0x01021994 // linux/magic.h

func (p *page) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", p.show)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if s := readSecret(p.secret); s.Problem != "" {
			http.Error(w, s.Problem, http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return mux
}

// readSecret reads the file anew each time: the value may have been rotated.
func readSecret(path string) secret {
	value, err := os.ReadFile(path)
	if err != nil {
		return secret{Problem: err.Error()}
	}
	info, err := os.Stat(path)
	if err != nil {
		return secret{Problem: err.Error()}
	}
	sum := sha256.Sum256(value)
	s := secret{Fingerprint: hex.EncodeToString(sum[:4]), Mode: info.Mode().String()}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err == nil {
		_ = f.Close() // nothing was written
	}
	s.ReadOnly = errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.EACCES)
	var fs syscall.Statfs_t
	if err := syscall.Statfs(path, &fs); err == nil {
		s.Memory = fs.Type == tmpfsMagic
	}
	return s
}

var shown = template.Must(template.New("page").Parse(`<!doctype html>
<meta charset="utf-8">
<title>lab {{.Version}} on {{.Host}}</title>
<style>body{font:16px/1.6 sans-serif;max-width:36em;margin:4em auto}td{padding:.2em 1em .2em 0}</style>
<h1>It runs.</h1>
<p>This machine was powered on, and nobody logged in to it.</p>
<table>
<tr><td>site</td><td id="site">www</td></tr>
<tr><td>version</td><td id="version">{{.Version}}</td></tr>
<tr><td>container</td><td id="host">{{.Host}}</td></tr>
{{with .Secret}}{{if .Problem}}<tr><td>secret</td><td id="problem">{{.Problem}}</td></tr>
{{else}}<tr><td>secret page-token</td><td>sha256 begins with <code id="fingerprint">{{.Fingerprint}}</code></td></tr>
<tr><td>its file</td><td><code id="mode">{{.Mode}}</code>, <span id="readonly">{{if .ReadOnly}}read-only{{else}}writable{{end}}</span>, <span id="memory">{{if .Memory}}in memory{{else}}on a disk{{end}}</span></td></tr>
{{end}}{{end}}</table>
`))

func (p *page) show(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	err := shown.Execute(w, struct {
		*page
		Secret secret
	}{p, readSecret(p.secret)})
	if err != nil {
		fmt.Fprintln(os.Stderr, "site: show the page:", err)
	}
}
