//go:build storm || integration

package storm

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/pin/tftp/v3"

	"github.com/pilotlight/pilotlight/cluster/agent"
)

const tftpPort = 69

// fetchLoader fetches the loader that DHCP named, with a client that we did not
// write.
func (m *machine) fetchLoader(ctx context.Context) error {
	server := netip.AddrPortFrom(m.loader.server, tftpPort)
	if !m.bios {
		if err := m.askSize(ctx, server); err != nil {
			return err
		}
	}
	c, err := tftp.NewClient(server.String())
	if err != nil {
		return err
	}
	if err := c.SetLocalAddr(m.addr.String()); err != nil {
		return err
	}
	c.SetTimeout(m.world.paced(2 * time.Second))
	c.SetRetries(4)
	c.SetBlockSize(1468)
	c.RequestTSize(true)
	from, err := c.Receive(m.loader.file, "octet")
	if err != nil {
		return fmt.Errorf("tftp %s: %w", m.loader.file, err)
	}
	h := sha256.New()
	if _, err := from.WriteTo(h); err != nil {
		return fmt.Errorf("tftp %s: %w", m.loader.file, err)
	}
	if got, want := hex.EncodeToString(h.Sum(nil)), m.world.loaders[m.loader.file]; got != want {
		return fmt.Errorf("loader %s is %s, not %s", m.loader.file, got, want)
	}
	return nil
}

// askSize asks how long the loader is, and hangs up, as EDK2 does first
// (PxeBcSupport.c, PxeBcTftpGetFileSize).
func (m *machine) askSize(ctx context.Context, server netip.AddrPort) error {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: m.addr.AsSlice()})
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	request := append([]byte{0, 1}, m.loader.file+"\x00octet\x00tsize\x000\x00blksize\x001468\x00"...)
	answer := make([]byte, 1500)
	for n := range 5 {
		if n > 0 {
			m.tell.again(m.step, "no answer to tsize")
		}
		if _, err := conn.WriteToUDPAddrPort(request, server); err != nil {
			return fmt.Errorf("ask for the size of %s: %w", m.loader.file, err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(m.world.paced(2 * time.Second))); err != nil {
			return err
		}
		got, from, err := conn.ReadFromUDPAddrPort(answer)
		if err != nil {
			continue
		}
		if got < 2 || binary.BigEndian.Uint16(answer) != 6 {
			return fmt.Errorf("ask for the size of %s: no OACK but %q", m.loader.file, answer[:got])
		}
		_, err = conn.WriteToUDPAddrPort([]byte("\x00\x05\x00\x08User aborted the transfer\x00"), from)
		return err
	}
	return fmt.Errorf("ask for the size of %s: nobody answers", m.loader.file)
}

var (
	setScript = regexp.MustCompile(`(?m)^set script (\S+)$`)
	sleeps    = regexp.MustCompile(`(?m)^sleep (\d+)$`)
	kernel    = regexp.MustCompile(`(?m)^kernel (\S+)(.*) \|\| goto failed$`)
	initrd    = regexp.MustCompile(`(?m)^initrd --name \S+ (\S+) \|\|`)
	configURL = regexp.MustCompile(` ignition\.config\.url=(\S+)`)
)

// fetchScript runs the script with which every machine starts, as iPXE would:
// when what it chains to fails it waits as long as it says there.
func (m *machine) fetchScript(ctx context.Context) error {
	c := m.browser()
	defer c.CloseIdleConnections()
	entry, err := m.get(ctx, c, m.entry.file, nil)
	if err != nil {
		return err
	}
	set := setScript.FindStringSubmatch(entry)
	if set == nil {
		return fmt.Errorf("no script is set in %q", entry)
	}
	url := strings.NewReplacer("${netX/mac:hexhyp}", m.mac.Hyphens(), "${uuid}", m.uuidText(),
		"${serial:uristring}", "", "${platform}", map[bool]string{true: "pcbios", false: "efi"}[m.bios]).Replace(set[1])
	for _, s := range sleeps.FindAllStringSubmatch(entry, -1) {
		m.script, err = m.get(ctx, c, url, nil)
		if err == nil && kernel.MatchString(m.script) {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("no kernel in %q", m.script)
		}
		m.tell.again(m.step, reason(err))
		seconds, _ := strconv.Atoi(s[1])
		if !agent.Sleep(ctx, m.world.paced(time.Duration(seconds)*time.Second)) {
			break
		}
	}
	return err
}

func (m *machine) uuidText() string {
	h := hex.EncodeToString(m.uuid[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// fetchImage fetches a file of the image, and looks whether it is whole. iPXE
// goes on to the end of its script when that fails, which begins it anew.
func (m *machine) fetchImage(ctx context.Context, what, sha string) error {
	for n := 0; ; n++ {
		find := map[string]*regexp.Regexp{"kernel": kernel, "initrd": initrd}[what]
		found := find.FindStringSubmatch(m.script)
		if found == nil {
			return fmt.Errorf("no %s in %q", what, m.script)
		}
		c := m.browser()
		h := sha256.New()
		_, err := m.get(ctx, c, found[1], h)
		c.CloseIdleConnections()
		if got := hex.EncodeToString(h.Sum(nil)); err == nil && got != sha {
			return fmt.Errorf("%s is %s, not %s", what, got, sha)
		}
		if err == nil || n == 3 {
			return err
		}
		m.tell.again(m.step, reason(err))
		if !agent.Sleep(ctx, m.world.paced(time.Second)) {
			return ctx.Err()
		}
		if err := m.fetchScript(ctx); err != nil {
			return err
		}
	}
}

// fetchConfig asks for the config as Ignition does: what is below 500 is final,
// else it asks for ever, after 100 ms at first and 5 s at most.
func (m *machine) fetchConfig(ctx context.Context) error {
	args := kernel.FindStringSubmatch(m.script)
	url := configURL.FindStringSubmatch(args[2])
	if url == nil {
		return fmt.Errorf("no config is named in %q", args[2])
	}
	first, err := m.fetchUntil(ctx, m.browser(), url[1], "")
	if err != nil {
		return err
	}
	rest, err := readPointer(first)
	if err != nil {
		return err
	}
	c := m.browser()
	c.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: rest.roots}
	body, err := m.fetchUntil(ctx, c, rest.url, rest.bearer)
	if err != nil {
		return err
	}
	if sum := sha256.Sum256([]byte(body)); rest.hash != "sha256-"+hex.EncodeToString(sum[:]) {
		return fmt.Errorf("the config's hash is not %s", rest.hash)
	}
	return m.readConfig(body)
}

func (m *machine) fetchUntil(ctx context.Context, c *http.Client, url, bearer string) (string, error) {
	defer c.CloseIdleConnections()
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		body, err := m.ask(ctx, c, url, bearer, nil)
		if err == nil {
			return body, nil
		}
		var refused *statusError
		if errors.As(err, &refused) && refused.status < 500 || ctx.Err() != nil {
			return "", err
		}
		m.tell.again(m.step, reason(err))
		if !agent.Sleep(ctx, m.world.paced(wait)) {
			return "", ctx.Err()
		}
	}
}

// statusError is an answer that is none.
type statusError struct {
	status int
	body   string
}

// Error implements error.
func (e *statusError) Error() string { return fmt.Sprintf("%d: %s", e.status, e.body) }

// get fetches a file, into to if that is set.
func (m *machine) get(ctx context.Context, c *http.Client, url string, to io.Writer) (string, error) {
	return m.ask(ctx, c, url, "", to)
}

// ask fetches a file, with a header of authorization if that is set.
func (m *machine) ask(ctx context.Context, c *http.Client, url, bearer string, to io.Writer) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Accept", "application/vnd.coreos.ignition+json;version=3.3.0, */*;q=0.1")
	if bearer != "" {
		req.Header.Set("Authorization", bearer)
	}
	res, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	if to != nil && res.StatusCode == http.StatusOK {
		n, err := io.Copy(to, res.Body)
		if err == nil && n != res.ContentLength {
			err = fmt.Errorf("%d bytes, not %d", n, res.ContentLength)
		}
		return "", err
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return "", err
	}
	if res.StatusCode != http.StatusOK {
		return "", &statusError{res.StatusCode, strings.TrimSpace(string(body))}
	}
	return string(body), nil
}

// reason is an error without what is different for each machine, to be counted.
func reason(err error) string {
	var refused *statusError
	if errors.As(err, &refused) {
		return addressLike.ReplaceAllString(hostLike.ReplaceAllString(refused.Error(), "HOST"), "ADDRESS")
	}
	text := err.Error()
	if i := strings.LastIndex(text, ": "); i >= 0 {
		text = text[i+2:]
	}
	return addressLike.ReplaceAllString(text, "ADDRESS")
}

var (
	hostLike    = regexp.MustCompile(`h\d{4}`)
	addressLike = regexp.MustCompile(`\d+\.\d+\.\d+\.\d+(:\d+)?|[0-9a-f]{2}(:[0-9a-f]{2}){5}`)
)
