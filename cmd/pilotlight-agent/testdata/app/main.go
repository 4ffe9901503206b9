// Command app is a site's program for tests. It serves on :8080:
//
//	/          its version, which is its first argument
//	/file?p=   a file's mode, owner and content
//	/mounts    /proc/self/mountinfo
//	/caps      its capabilities
//	/write?p=  whether it can write a file
//
// "app check" is its health check. "app VERSION sick" serves and is never
// healthy, "app VERSION crash" ends at once, saying what its secret is, and
// "app VERSION fail" ends at once.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) < 2 {
		os.Exit(2)
	}
	mode := ""
	if len(os.Args) > 2 {
		mode = os.Args[2]
	}
	if os.Args[1] == "check" {
		res, err := http.Get("http://127.0.0.1:8080/healthz")
		if err != nil || res.StatusCode != 200 {
			os.Exit(1)
		}
		return
	}
	if mode == "crash" {
		secret, _ := os.ReadFile("/run/secrets/password")
		fmt.Fprintf(os.Stderr, "cannot log in with %s: giving up\n", secret)
		os.Exit(3)
	}
	if mode == "fail" {
		fmt.Fprintln(os.Stderr, "I give up")
		os.Exit(3)
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	go func() { <-term; os.Exit(0) }()
	serve(mode)
}

func serve(mode string) {
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, os.Args[1]) })
	http.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		if mode == "sick" {
			w.WriteHeader(500)
		}
	})
	http.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) {
		st, err := os.Stat(r.FormValue("p"))
		if err != nil {
			http.Error(w, err.Error(), 404)
			return
		}
		b, err := os.ReadFile(r.FormValue("p"))
		if err != nil {
			http.Error(w, err.Error(), 403)
			return
		}
		sys := st.Sys().(*syscall.Stat_t)
		fmt.Fprintf(w, "%v %d:%d %s", st.Mode(), sys.Uid, sys.Gid, b)
	})
	http.HandleFunc("/write", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, os.WriteFile(r.FormValue("p"), []byte("x"), 0o600))
	})
	show := func(file string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			b, _ := os.ReadFile(file)
			w.Write(b)
		}
	}
	http.HandleFunc("/mounts", show("/proc/self/mountinfo"))
	http.HandleFunc("/caps", show("/proc/self/status"))
	for {
		fmt.Fprintln(os.Stderr, http.ListenAndServe(":8080", nil))
		time.Sleep(time.Second)
	}
}
