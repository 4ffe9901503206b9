package httpboot_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/boot/httpboot"
	"github.com/pilotlight/pilotlight/cluster"
)

var (
	mac1  = cluster.MAC{0x52, 0x54, 0, 0, 0, 1}
	mac2  = cluster.MAC{0x52, 0x54, 0, 0, 0, 2}
	mac1b = cluster.MAC{0x52, 0x54, 0, 0, 1, 1} // web1's other network card
	addr1 = netip.MustParseAddr("10.0.0.51")
	addr2 = netip.MustParseAddr("10.0.0.52")
)

const secret = "token-4711"

// configs counts what it makes.
type configs struct {
	made atomic.Int32
	err  error
	last httpboot.Machine
}

func (c *configs) Ignition(_ context.Context, m httpboot.Machine, accept string) (httpboot.Body, error) {
	c.made.Add(1)
	c.last = m
	return httpboot.Body{Data: []byte(`{"for":"` + m.Host.Name + `","accept":"` + accept + `","token":"` + secret + `"}`), ContentType: "application/vnd.coreos.ignition+json"}, c.err
}

func (c *configs) NetworkConfig(_ context.Context, m httpboot.Machine) (httpboot.Body, error) {
	if m.Host.Name != "web1" {
		return httpboot.Body{}, nil
	}
	return httpboot.Body{Data: []byte("version: 2\n"), ContentType: "text/yaml"}, nil
}

func (c *configs) UserData(_ context.Context, m httpboot.Machine, accept string) (httpboot.Body, error) {
	c.made.Add(1)
	c.last = m
	return httpboot.Body{Data: fmt.Appendf(nil, "user-data of %s for %s\n", m.Host.Name, accept), ContentType: "text/cloud-config"}, nil
}

func (c *configs) CloudConfig(_ context.Context, m httpboot.Machine) (httpboot.Body, error) {
	c.made.Add(1)
	return httpboot.Body{Data: []byte("#cloud-config\n# " + m.Host.Name + "\n"), ContentType: "text/cloud-config"}, c.err
}

func (c *configs) Text(_ context.Context, m httpboot.Machine) (httpboot.Body, error) {
	c.made.Add(1)
	c.last = m
	return httpboot.Body{Data: []byte("d-i for " + m.Host.Name), ContentType: "text/plain"}, c.err
}

func (c *configs) Setup(_ context.Context, m httpboot.Machine) (httpboot.Body, error) {
	c.made.Add(1)
	c.last = m
	return httpboot.Body{Data: []byte("#!/bin/sh\n# " + m.Host.Name + secret), ContentType: "text/plain"}, c.err
}

func (c *configs) Generic(_ context.Context, m httpboot.Machine) (httpboot.Body, error) {
	return httpboot.Body{Data: []byte("NAME=" + m.Host.Name + "\n"), ContentType: "text/plain"}, c.err
}

// files are in a directory, by the last element of their URL.
type files struct{ dir string }

func (f files) Open(_ context.Context, file cluster.File) (*os.File, error) {
	if file.URL == "http://far/away" {
		return nil, fmt.Errorf("%s: %w", file.URL, httpboot.ErrNotReady)
	}
	return os.Open(filepath.Join(f.dir, file.URL))
}

type rig struct {
	t       testing.TB
	handler *httpboot.Handler
	configs *configs
	log     bytes.Buffer
	dir     string
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{t: t, configs: new(configs), dir: t.TempDir()}
	for name, text := range map[string]string{"kernel": "the kernel", "initrd0": "first", "initrd1": "second", "initrd0.sig": "a signature", "agent": "the agent"} {
		if err := os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	network := func(name, cidr string, mode cluster.DHCPMode) *cluster.Network {
		return &cluster.Network{Meta: cluster.Meta{Name: name}, CIDR: netip.MustParsePrefix(cidr), DHCP: mode}
	}
	snap := cluster.NewSnapshot(1, []cluster.Document{
		network("lan", "10.0.0.0/24", cluster.DHCPAuthoritative), network("static", "10.1.0.0/24", cluster.DHCPOff),
		network("office", "10.2.0.0/24", cluster.DHCPProxy),
		&cluster.Image{Meta: cluster.Meta{Name: "node"}, Kernel: cluster.File{URL: "kernel", SHA256: "aa"}, Initrd: []cluster.File{{URL: "initrd0", SHA256: "bb"}, {URL: "initrd1", SHA256: "cc"}}},
		&cluster.Image{Meta: cluster.Meta{Name: "flatcar"}, Kernel: cluster.File{URL: "kernel"}, Release: "4593.2.5", Disk: &cluster.File{URL: "initrd0"}, DiskSignature: &cluster.File{URL: "initrd0.sig"}},
		&cluster.Image{Meta: cluster.Meta{Name: "far"}, Kernel: cluster.File{URL: "http://far/away"}, Rootfs: &cluster.File{URL: "gone"}},
		&cluster.Profile{Meta: cluster.Meta{Name: "web"}, Image: "node", Args: []string{"config={{.ConfigURL}}"}},
		&cluster.Profile{Meta: cluster.Meta{Name: "broken"}, Image: "node", Args: []string{"{{.Variables.none}}"}},
		&cluster.Host{Meta: cluster.Meta{Name: "web1"}, MACs: []cluster.MAC{mac1, mac1b}, UUID: "22345678-9abc-def0-1122-334455667788", Profile: "web"},
		&cluster.Host{Meta: cluster.Meta{Name: "web2"}, MACs: []cluster.MAC{mac2}, Profile: "broken"},
		&cluster.Host{Meta: cluster.Meta{Name: "blade"}, UUID: "12345678-9abc-def0-1122-334455667788", Profile: "web"},
		&cluster.Host{Meta: cluster.Meta{Name: "lost"}, MACs: []cluster.MAC{{2, 0, 0, 0, 0, 9}}},
	})
	r.handler = &httpboot.Handler{
		Snapshot: func() *cluster.Snapshot { return snap },
		Owner: func(a netip.Addr) (cluster.Identity, bool) {
			m, ok := map[netip.Addr]cluster.MAC{addr1: mac1, addr2: mac2, netip.MustParseAddr("10.0.0.59"): {2, 0, 0, 0, 0, 9}}[a]
			return cluster.Identity{MAC: m}, ok
		},
		Configs: r.configs, Files: files{r.dir}, Loaders: fstest.MapFS{"snponly.efi": {Data: []byte("MZ")}},
		Agent: cluster.File{URL: "agent", SHA256: "dd"}, CA: func() []byte { return []byte("PEM") }, HTTPPort: 8080,
		Recorder: new(boot.Recorder), Logger: slog.New(slog.NewTextHandler(&r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	return r
}

// do asks as a client at an address.
func (r *rig) do(method, path string, from netip.Addr, header ...string) *httptest.ResponseRecorder {
	r.t.Helper()
	q := httptest.NewRequest(method, path, nil)
	q.RemoteAddr = netip.AddrPortFrom(from, 4711).String()
	q = q.WithContext(context.WithValue(q.Context(), http.LocalAddrContextKey, net.Addr(&net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 80})))
	for i := 0; i+1 < len(header); i += 2 {
		q.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	r.handler.ServeHTTP(w, q)
	return w
}

func TestPaths(t *testing.T) {
	r := newRig(t)
	stranger, static := netip.MustParseAddr("192.168.1.9"), netip.MustParseAddr("10.1.0.9")
	me, my2 := "mac="+mac1.Hyphens(), "mac="+mac2.Hyphens()
	for _, row := range []struct {
		what string
		path string
		from netip.Addr
		code int
		body string // part of it
	}{
		{"the entry is for everybody", "/boot.ipxe", stranger, 200, "http://10.0.0.1:8080/ipxe?mac="},
		{"a machine's script", "/ipxe?platform=efi&" + me, addr1, 200, "config=http://10.0.0.1:8080/ignition?mac=52-54-00-00-00-01"},
		{"any spelling of a MAC", "/ipxe?mac=52:54:00:00:00:01", addr1, 200, "host web1"},
		{"by the name of its other network card", "/ipxe?mac=" + mac1b.Hyphens(), addr1, 200, "mac=52-54-00-00-00-01"},
		{"blank serial and UUID, as iPXE sends what is not set", "/ipxe?uuid=&serial=&" + me, addr1, 200, "host web1"},
		{"a template that cannot be filled in", "/ipxe?" + my2, addr2, 503, "profile broken: args[0]"},
		{"nobody says who asks", "/ipxe", addr1, 400, "add ?mac="},
		{"what is no MAC", "/ignition?mac=banana", addr1, 400, "is not a MAC address"},
		{"a machine that no document names", "/ignition?mac=02-00-00-00-00-08", addr1, 503, "apply one with kind: host"},
		{"a host without a profile", "/ignition?mac=02-00-00-00-00-09", netip.MustParseAddr("10.0.0.59"), 503, "gets no profile"},
		{"an address that is lent to nobody", "/ignition?" + me, netip.MustParseAddr("10.0.0.99"), 503, "is lent to nobody"},
		{"an address that is lent to another machine", "/ignition?" + me, addr2, 403, "is lent to 52:54:00:00:00:02, which is another machine"},
		{"an address on no network", "/ignition?" + me, stranger, 403, "is on no network"},
		{"a network whose addresses somebody else lends", "/ignition?" + me, static, 200, `"for":"web1"`},
		{"an Ignition config", "/ignition?" + me, addr1, 200, `"for":"web1"`},
		{"a cloud-config", "/cloud-config?" + me, addr1, 200, "#cloud-config"},
		{"another system's text", "/text?" + me, addr1, 200, "d-i for web1"},
		{"another machine's text", "/text?" + me, addr2, 403, "is lent to 52:54:00:00:00:02"},
		{"a stranger's text", "/text?" + me, stranger, 403, "is on no network"},
		{"the setup", "/setup?" + me, addr1, 200, "#!/bin/sh"},
		{"another machine's setup", "/setup?" + me, addr2, 403, "is lent to 52:54:00:00:00:02"},
		{"an installer's setup, of a host that is not installed", "/setup?installer=1&" + me, addr1, 503, "asks as an installer"},
		{"a disk", "/images/flatcar/disk/4593.2.5/initrd0", stranger, 200, "first"},
		{"its signature", "/images/flatcar/disk/4593.2.5/initrd0.sig", stranger, 200, "a signature"},
		{"a disk of another release", "/images/flatcar/disk/1.2.3/initrd0", stranger, 404, "has no image of a disk of release"},
		{"another disk", "/images/flatcar/disk/4593.2.5/other", stranger, 404, "has initrd0"},
		{"a disk that the image has not", "/images/node/disk/1/x", stranger, 404, "has no image of a disk"},
		{"a seed's user-data", "/cloud/52-54-00-00-00-01/user-data", addr1, 200, "# web1"},
		{"a seed's meta-data", "/cloud/52-54-00-00-00-01/meta-data", addr1, 200, "instance-id: \"web1-"},
		{"a seed's vendor-data", "/cloud/52-54-00-00-00-01/vendor-data", addr1, 200, "#cloud-config\n{}\n"},
		{"a seed's network-config", "/cloud/52-54-00-00-00-01/network-config", addr1, 200, "version: 2"},
		{"it may be missing", "/cloud/52-54-00-00-00-02/network-config", addr2, 404, "says nothing of its network"},
		{"another machine's seed", "/cloud/52-54-00-00-00-01/meta-data", addr2, 403, ""},
		{"a kernel", "/images/node/kernel", stranger, 200, "the kernel"},
		{"the second initial RAM disk", "/images/node/initrd/1", addr1, 200, "second"},
		{"a third one", "/images/node/initrd/2", addr1, 404, "has 2 initial RAM disks"},
		{"a number that is none", "/images/node/initrd/-1", addr1, 404, ""},
		{"a root file system that the image has not", "/images/node/rootfs", addr1, 404, "has no root file system"},
		{"an image that is being fetched", "/images/far/kernel", addr1, 503, "not ready"},
		{"a file that is gone", "/images/far/rootfs", addr1, 503, "cannot be read"},
		{"no such image", "/images/none/kernel", addr1, 404, "apply a document with kind: image"},
		{"the agent", "/agent/dd/pilotlight-agent", addr1, 200, "the agent"},
		{"another agent", "/agent/ee/pilotlight-agent", addr1, 404, "fetch the host's config again"},
		{"the authority", "/ca.pem", stranger, 200, "PEM"},
		{"a loader", "/loaders/snponly.efi", stranger, 200, "MZ"},
		{"no such loader", "/loaders/none.efi", stranger, 404, ""},
		{"out of the loaders' directory", "/loaders/..%2f..%2fetc%2fpasswd", stranger, 404, ""},
		{"the loaders' directory", "/loaders/", stranger, 404, ""},
		{"anything else", "/etc/passwd", stranger, 404, ""},
	} {
		t.Run(row.what, func(t *testing.T) {
			w := r.do("GET", row.path, row.from)
			if w.Code != row.code || !strings.Contains(w.Body.String(), row.body) {
				t.Errorf("%d, want %d with %q:\n%s", w.Code, row.code, row.body, w.Body)
			}
			if w.Code == 503 && w.Header().Get("Retry-After") == "" {
				t.Error("it does not say when to ask again")
			}
		})
	}
	if strings.Contains(r.log.String(), secret) {
		t.Error("a token is in the log")
	}
}

func TestConfigErrors(t *testing.T) {
	for want, err := range map[int]error{
		503: fmt.Errorf("the compiler is busy: %w", httpboot.ErrNotReady),
		406: fmt.Errorf("version 3.9.0: %w", httpboot.ErrNotAcceptable),
	} {
		r := newRig(t)
		r.configs.err = err
		if w := r.do("GET", "/ignition?mac="+mac1.Hyphens(), addr1); w.Code != want || strings.Contains(w.Body.String(), secret) {
			t.Errorf("%v is answered with %d: %s", err, w.Code, w.Body)
		}
	}
}

func TestHeadMintsNothing(t *testing.T) {
	r := newRig(t)
	for _, path := range []string{"/ignition?mac=", "/cloud-config?mac="} {
		if w := r.do("HEAD", path+mac1.Hyphens(), addr1); w.Code != 200 || w.Body.Len() != 0 {
			t.Errorf("%s: %d, %d bytes", path, w.Code, w.Body.Len())
		}
	}
	if n := r.configs.made.Load(); n != 0 {
		t.Errorf("%d configs were made", n)
	}
	r.do("GET", "/ignition?mac="+mac1.Hyphens(), addr1, "Accept", "x/y;version=3.3.0")
	if m := r.configs.last; m.Address != addr1 || m.Identity.MAC != mac1 || m.Server.URL != "http://10.0.0.1:8080" || m.Target.Profile.Name != "web" {
		t.Errorf("the config was made for %+v", m)
	}
	if w := r.do("POST", "/ignition?mac="+mac1.Hyphens(), addr1); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("a POST is answered with %d", w.Code)
	}
}

func TestImageHeaders(t *testing.T) {
	r := newRig(t)
	w := r.do("GET", "/images/node/kernel", addr1, "Range", "bytes=4-")
	if w.Code != 206 || w.Body.String() != "kernel" || w.Header().Get("Etag") != `"aa"` || w.Header().Get("Content-Length") != "6" {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	if w := r.do("GET", "/images/node/kernel", addr1, "If-None-Match", `"aa"`); w.Code != 304 {
		t.Errorf("unchanged is answered with %d", w.Code)
	}
	if w := r.do("HEAD", "/images/node/kernel", addr1); w.Code != 200 || w.Header().Get("Content-Length") != "10" || w.Body.Len() != 0 {
		t.Errorf("HEAD: %d %v", w.Code, w.Header())
	}
}

func TestTimeline(t *testing.T) {
	r := newRig(t)
	for _, path := range []string{"/ipxe?mac=" + mac1.Hyphens(), "/images/node/kernel", "/images/node/initrd/0", "/images/node/initrd/1", "/ignition?mac=" + mac1.Hyphens(), "/agent/dd/pilotlight-agent"} {
		r.do("HEAD", path, addr1)
		r.do("GET", path, addr1)
		r.do("GET", "/images/node/kernel", netip.MustParseAddr("192.168.1.9")) // a stranger's, nobody's step
	}
	b, _ := r.handler.Recorder.Current(mac1)
	var got []string
	for _, e := range b.Events {
		got = append(got, string(e.Step)+" "+e.Detail)
	}
	if s := strings.Join(got, ", "); s != "script profile web, live, kernel node, initrd node 0, initrd node 1, config /ignition, agent pilotlight-agent" {
		t.Errorf("the timeline is %s", s)
	}
	if r.configs.last.Boot != b.ID {
		t.Errorf("the config was made for boot %q, want %q", r.configs.last.Boot, b.ID)
	}
}

// slow is a client that does not read.
func TestStormDoesNotStarveConfigs(t *testing.T) {
	r := newRig(t)
	if err := os.Truncate(filepath.Join(r.dir, "kernel"), 64<<20); err != nil {
		t.Fatal(err)
	}
	r.handler.MaxImages, r.handler.Logger = 2, nil
	r.handler.Owner = func(netip.Addr) (cluster.Identity, bool) { return cluster.Identity{MAC: mac1}, true }
	s := httptest.NewServer(r.handler)
	defer s.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for range 8 {
		go func() {
			q, _ := http.NewRequestWithContext(ctx, "GET", s.URL+"/images/node/kernel", nil)
			if a, err := http.DefaultClient.Do(q); err == nil {
				<-ctx.Done() // and reads nothing of it
				a.Body.Close()
			}
		}()
	}
	time.Sleep(100 * time.Millisecond)
	before := time.Now()
	a, err := http.Get(s.URL + "/boot.ipxe")
	if err != nil || a.StatusCode != 200 {
		t.Fatalf("%v, %v", a, err)
	}
	a.Body.Close()
	if took := time.Since(before); took > time.Second {
		t.Errorf("the script took %s", took)
	}
}

// readerFrom is a ResponseWriter that notes whether a file reached it whole, as
// net/http's must for sendfile.
type readerFrom struct {
	*httptest.ResponseRecorder
	file bool
}

func (w *readerFrom) ReadFrom(r io.Reader) (int64, error) {
	if l, ok := r.(*io.LimitedReader); ok {
		_, w.file = l.R.(*os.File)
	}
	return io.Copy(w.ResponseRecorder, r)
}

func TestSendfileSurvives(t *testing.T) {
	r := newRig(t)
	q := httptest.NewRequest("GET", "/images/node/kernel", nil)
	w := &readerFrom{ResponseRecorder: httptest.NewRecorder()}
	r.handler.ServeHTTP(w, q)
	if !w.file || w.Body.String() != "the kernel" {
		t.Errorf("the file was copied by hand: %v, %q", w.file, w.Body)
	}
}

// A stranger has no more than a line of the log, and of the answer, for each of
// the few requests that are logged.
func TestLongWords(t *testing.T) {
	r := newRig(t)
	long := strings.Repeat("a", 1<<20)
	for _, path := range []string{"/ipxe?mac=" + long, "/ipxe?serial=" + long + "&mac=" + mac1.Hyphens(), "/images/" + long + "/kernel", "/cloud/" + long + "/meta-data", "/loaders/" + long} {
		if w := r.do("GET", path, addr2); w.Code == 200 || w.Body.Len() > 4<<10 {
			t.Errorf("%.20s: %d with %d bytes", path, w.Code, w.Body.Len())
		}
	}
	if n := r.log.Len(); n > 5*(6<<10) {
		t.Errorf("%d bytes in the log", n)
	}
}

func FuzzQuery(f *testing.F) {
	r := newRig(f)
	r.handler.Logger = nil
	for _, s := range []string{"mac=52-54-00-00-00-01", "mac=52:54:00:00:00:01&uuid=4c4c4544-0042-3510-8051-b4c04f4d3132&serial=a%20b&platform=efi", "mac=%00", "mac=&mac=", "uuid=%7b", ";"} {
		for _, path := range []string{"/ipxe", "/ignition", "/cloud/52-54-00-00-00-01/meta-data", "/images/node/initrd/0", "/loaders/a"} {
			f.Add(path, s)
		}
	}
	f.Fuzz(func(t *testing.T, path, query string) {
		u := url.URL{Path: "/" + strings.TrimPrefix(path, "/"), RawQuery: query}
		q, err := http.NewRequest("GET", u.String(), nil)
		if err != nil {
			return
		}
		q.RemoteAddr = netip.AddrPortFrom(addr2, 1).String() // web2's, whose script cannot be made
		w := httptest.NewRecorder()
		r.handler.ServeHTTP(w, q)
		if b := w.Body.String(); strings.Contains(b, "web1") && w.Code == 200 && !strings.Contains(path, "vendor-data") {
			t.Fatalf("web2 got something of web1's: %s", b)
		}
	})
}

// BenchmarkImage is a download of 64 MiB, and the same from a bare FileServer.
func BenchmarkImage(b *testing.B) {
	const size = 64 << 20
	r := newRig(b)
	r.handler.Logger = nil
	if err := os.Truncate(filepath.Join(r.dir, "kernel"), size); err != nil {
		b.Fatal(err)
	}
	for name, h := range map[string]http.Handler{"handler/images/node/kernel": r.handler, "bare/kernel": http.FileServer(http.Dir(r.dir))} {
		name, path, _ := strings.Cut(name, "/")
		b.Run(name, func(b *testing.B) {
			s := httptest.NewServer(h)
			defer s.Close()
			b.SetBytes(size)
			for b.Loop() {
				a, err := http.Get(s.URL + "/" + path)
				if err != nil {
					b.Fatal(err)
				}
				if n, err := io.Copy(io.Discard, a.Body); err != nil || n != size {
					b.Fatal(n, err)
				}
				a.Body.Close()
			}
		})
	}
}

// Matchbox's URLs say a UUID or a serial number without a MAC. They open no hole:
// what they say has to be so by the address that asks.
func TestMatchboxURLs(t *testing.T) {
	r := newRig(t)
	stranger := netip.MustParseAddr("192.168.1.9")
	web1, blade := "uuid=22345678-9abc-def0-1122-334455667788", "uuid=12345678-9abc-def0-1122-334455667788"
	for _, row := range []struct {
		what string
		path string
		from netip.Addr
		code int
		body string
	}{
		{"the entry by its other name", "/boot.ipxe.0", stranger, 200, "#!ipxe"},
		{"a config by UUID, from the host's own address", "/ignition?" + web1, addr1, 200, `"for":"web1"`},
		{"another's UUID: the machine gets its own", "/ignition?" + web1, addr2, 200, `"for":"web2"`},
		{"a config by another's MAC", "/ignition?mac=" + mac1.Hyphens() + "&" + web1, addr2, 403, "is another machine"},
		{"a config by UUID, from an address that is lent to nobody", "/ignition?" + web1, netip.MustParseAddr("10.0.0.99"), 503, "is lent to nobody"},
		{"a script by UUID", "/ipxe?" + web1, addr1, 200, "host web1"},
		{"a host's own UUID beside another machine's", "/ignition?" + blade, addr1, 200, `"for":"web1"`},
		{"labels choose nothing", "/ignition?os=installed&" + web1, addr1, 200, `"for":"web1"`},
		{"nobody says who asks", "/metadata?os=installed", addr1, 400, "add ?mac="},
		{"another's variables", "/metadata?mac=" + mac1.Hyphens(), addr2, 403, ""},
		{"its own variables", "/metadata?mac=" + mac1.Hyphens() + "&a=b%0AEVIL=1", addr1, 200, "REQUEST_QUERY_A=b EVIL=1\nREQUEST_QUERY_MAC=52:54:00:00:00:01\nREQUEST_RAW_QUERY=mac="},
		{"a cloud-config at matchbox's URL", "/cloud?mac=" + mac1.Hyphens(), addr1, 200, "# web1"},
		{"another's cloud-config", "/cloud?mac=" + mac1.Hyphens(), addr2, 403, ""},
		{"a GRUB config", "/grub?mac=" + mac1.Hyphens(), addr1, 200, "linux (http,10.0.0.1:8080)/images/node/kernel 'config=http://10.0.0.1:8080/ignition?mac=52-54-00-00-00-01"},
		{"another's GRUB config", "/grub?mac=" + mac1.Hyphens(), addr2, 403, ""},
		{"a profile without generic:", "/generic?mac=" + mac1.Hyphens(), addr1, 404, "has no generic:"},
		{"another's generic text", "/generic?mac=" + mac1.Hyphens(), addr2, 403, ""},
		{"a file of no image", "/assets/kernel", stranger, 404, "no image has a file"},
	} {
		if w := r.do("GET", row.path, row.from); w.Code != row.code || !strings.Contains(w.Body.String(), row.body) {
			t.Errorf("%s: %d, want %d with %q:\n%s", row.what, w.Code, row.code, row.body, w.Body)
		}
	}
}
