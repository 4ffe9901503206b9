package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPageShowsTheFingerprintNotTheValue(t *testing.T) {
	file := filepath.Join(t.TempDir(), "page-token")
	if err := os.WriteFile(file, []byte("correct horse"), 0o400); err != nil {
		t.Fatal(err)
	}
	h := (&page{Host: "c1", Version: "v1", secret: file}).handler()
	body := get(t, h, "/", http.StatusOK)
	for _, want := range []string{`id="fingerprint">4104d36f<`, `id="version">v1<`, `id="host">c1<`, "-r--------"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %s:\n%s", want, body)
		}
	}
	if strings.Contains(body, "correct horse") {
		t.Error("the page shows the secret's value")
	}
	get(t, h, "/healthz", http.StatusOK)
}

func TestHealthFailsWithoutTheSecret(t *testing.T) {
	h := (&page{secret: filepath.Join(t.TempDir(), "none")}).handler()
	if body := get(t, h, "/healthz", http.StatusServiceUnavailable); !strings.Contains(body, "no such file") {
		t.Errorf("it does not say why: %s", body)
	}
	if body := get(t, h, "/", http.StatusOK); !strings.Contains(body, "no such file") {
		t.Errorf("the page does not say why: %s", body)
	}
}

func get(t *testing.T, h http.Handler, path string, code int) string {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, http.NoBody))
	if w.Code != code {
		t.Fatalf("GET %s: %d, want %d: %s", path, w.Code, code, w.Body)
	}
	return w.Body.String()
}
