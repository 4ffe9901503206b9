package join

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/clustertest"
)

var (
	_ Records = (*clustertest.Memory)(nil)
	_ Nodes   = (*clustertest.Memory)(nil)
	_ Auditor = (*clustertest.Memory)(nil)

	hostAddr = netip.MustParseAddr("10.0.0.5")
	hostMAC  = cluster.MAC{0x52, 0x54, 0, 0, 0, 1}
)

const hostUUID = "4c4c4544-0042-3510-8051-b4c04f4d3132"

func TestIntroduce(t *testing.T) {
	r, key := newRig(t), newKey(t)
	token := r.mint()
	out, err := r.Introduce(t.Context(), hostAddr, request(t, token, key))
	if err != nil {
		t.Fatal(err)
	}
	cert := r.certificate(out)
	if _, err := cert.Verify(x509.VerifyOptions{Roots: r.CA.Pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Error(err)
	}
	if _, err := cert.Verify(x509.VerifyOptions{Roots: r.CA.Pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err == nil {
		t.Error("a host may pass for a server")
	}
	if cert.Subject.CommonName != "node:web1" || len(cert.Subject.Organization) != 0 || len(cert.DNSNames) != 0 || !key.PublicKey.Equal(cert.PublicKey) {
		t.Errorf("certificate of %v, %v", cert.Subject, cert.DNSNames)
	}
	if d := time.Until(cert.NotAfter); d > nodeLife || d < nodeLife-time.Minute {
		t.Errorf("it holds %v", d)
	}
	if out.Host != "web1" || out.CA != string(r.CA.PEM()) || r.joined.Load() != 1 || !r.store.Allowed("web1") {
		t.Errorf("answer %+v", out)
	}
	in, _, err := r.store.Introduction(t.Context(), "web1")
	if err != nil || in.Boot != "b1" || in.Address != hostAddr || in.MAC != hostMAC || in.KeyHash != keyHash(t, key) || !strings.HasPrefix(in.Recipient, "age1") {
		t.Errorf("record %+v, %v", in, err)
	}
	again, err := r.Certificate(t.Context(), keyHash(t, key)) // the answer was lost on its way
	if err != nil || again != out {
		t.Errorf("fetched again: %+v, %v", again, err)
	}
	r.second(token, key)
}

// second redeems a token that was used: the host that did, to which the answer
// was lost, gets it once more, and raises no alarm; nobody else gets anything.
func (r *rig) second(token string, key crypto.Signer) {
	r.t.Helper()
	before, joined := len(r.audit("web1")), r.joined.Load()
	first, err := r.Introduce(r.t.Context(), hostAddr, request(r.t, token, key))
	if err != nil || !key.Public().(*ecdsa.PublicKey).Equal(r.certificate(first).PublicKey) {
		r.t.Errorf("the host itself: %v", err)
	}
	if after := r.audit("web1"); len(after) != before || r.joined.Load() != joined+1 { // the server that was to say so may have died
		r.t.Errorf("%d entries more in the audit, %d joined", len(after)-before, r.joined.Load()-joined)
	}
	_, err = r.Introduce(r.t.Context(), hostAddr, request(r.t, token, newKey(r.t)))
	r.refusal(err, http.StatusConflict, "this token was used at")
	other := request(r.t, token, key)
	other.MAC[5]++
	_, err = r.Introduce(r.t.Context(), hostAddr, other)
	r.refusal(err, http.StatusConflict, "this token was used at")
	_, err = r.Introduce(r.t.Context(), netip.MustParseAddr("10.0.0.6"), request(r.t, token, key))
	r.refusal(err, http.StatusConflict, "this token was used at")
	in := request(r.t, token, key)
	in.CSR = ""
	_, err = r.Introduce(r.t.Context(), hostAddr, in)
	r.refusal(err, http.StatusConflict, "this token was used at")
}

func TestRefusals(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	broken := csrOf(t, newKey(t))
	block, _ := pem.Decode([]byte(broken))
	block.Bytes[len(block.Bytes)-1] ^= 1
	broken = string(pem.EncodeToMemory(block))
	other := netip.MustParseAddr("10.0.0.6")
	for name, c := range map[string]struct {
		change func(r *rig, from *netip.Addr, in *Request)
		status int
		says   string
	}{
		"made up":      {func(_ *rig, _ *netip.Addr, in *Request) { in.Token = "x" }, 403, "never made"},
		"empty":        {func(_ *rig, _ *netip.Addr, in *Request) { in.Token = "" }, 403, "never made"},
		"its hash":     {func(_ *rig, _ *netip.Addr, in *Request) { in.Token = hashToken(in.Token) }, 403, "never made"},
		"address":      {func(_ *rig, from *netip.Addr, _ *Request) { *from = other }, 403, "was made for 10.0.0.5, not for 10.0.0.6"},
		"no address":   {func(_ *rig, from *netip.Addr, _ *Request) { *from = netip.Addr{} }, 403, "was made for 10.0.0.5"},
		"MAC":          {func(_ *rig, _ *netip.Addr, in *Request) { in.MAC[5]++ }, 403, "another MAC address than 52:54:00:00:00:02"},
		"no MAC":       {func(_ *rig, _ *netip.Addr, in *Request) { in.MAC = cluster.MAC{} }, 403, "another MAC address"},
		"UUID":         {func(_ *rig, _ *netip.Addr, in *Request) { in.UUID = "4c4c4544-0042-3510-8051-b4c04f4d3133" }, 403, "another machine"},
		"late":         {func(r *rig, _ *netip.Addr, in *Request) { r.age(in.Token) }, 403, "this token ended at"},
		"alive":        {func(r *rig, _ *netip.Addr, _ *Request) { r.live("web1") }, 403, "is alive"},
		"no CSR":       {func(_ *rig, _ *netip.Addr, in *Request) { in.CSR = "" }, 400, "no certificate request"},
		"bad CSR":      {func(_ *rig, _ *netip.Addr, in *Request) { in.CSR = broken }, 400, "not signed by its own key"},
		"a key as CSR": {func(r *rig, _ *netip.Addr, in *Request) { in.CSR = string(r.CA.PEM()) }, 400, "no certificate request"},
		"RSA":          {func(r *rig, _ *netip.Addr, in *Request) { in.CSR = csrOf(r.t, rsaKey) }, 400, "no ECDSA key"},
		"recipient":    {func(_ *rig, _ *netip.Addr, in *Request) { in.Recipient = "age1x" }, 400, "not an age X25519 recipient"},
		"no recipient": {func(_ *rig, _ *netip.Addr, in *Request) { in.Recipient = "" }, 400, "not an age X25519 recipient"},
		"superseded": {func(r *rig, _ *netip.Addr, _ *Request) {
			if _, err := r.Introduce(r.t.Context(), hostAddr, request(r.t, r.mint(), newKey(r.t))); err != nil {
				r.t.Error(err)
			}
		}, 403, "introduced with another token"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			token := r.mint()
			in, from := request(t, token, newKey(t)), hostAddr
			c.change(r, &from, &in)
			before := r.joined.Load()
			_, err := r.Introduce(t.Context(), from, in)
			r.refusal(err, c.status, c.says)
			if r.joined.Load() != before || before == 0 && name != "alive" && r.store.Allowed("web1") {
				t.Error("it was let in all the same")
			}
			if record, _, err := r.store.Token(t.Context(), hashToken(token)); err != nil || !record.Used.IsZero() {
				t.Errorf("the token was used up: %+v, %v", record, err)
			}
		})
	}
}

// age makes a token end.
func (r *rig) age(token string) {
	record, _, err := r.store.Token(r.t.Context(), hashToken(token))
	if err != nil {
		r.t.Fatal(err)
	}
	record.Expires = time.Now().Add(-time.Second)
	_ = r.store.PutToken(r.t.Context(), hashToken(token), record)
}

func (r *rig) live(h cluster.HostName) {
	r.t.Helper()
	_ = r.store.AllowNode(r.t.Context(), h)
	if err := r.store.SetAlive(r.t.Context(), h, &cluster.Alive{}); err != nil {
		r.t.Fatal(err)
	}
}

func TestMintRefusesTheLiving(t *testing.T) {
	r := newRig(t)
	r.live("web1")
	_, err := r.Mint(t.Context(), Bearer{Host: "web1", Address: hostAddr})
	if !errors.Is(err, ErrAlive) {
		t.Error(err)
	}
	if all := r.audit("web1"); len(all) == 0 || all[len(all)-1].OK {
		t.Errorf("audit %+v", all)
	}
}

// TestRetiredHostStaysOut has a host that was retired show a token that was
// made before: its old certificate must not open etcd again.
func TestRetiredHostStaysOut(t *testing.T) {
	r := newRig(t)
	if _, err := r.Introduce(t.Context(), hostAddr, request(t, r.mint(), newKey(t))); err != nil {
		t.Fatal(err)
	}
	token := r.mint()
	if err := r.store.ForgetNode(t.Context(), "web1"); err != nil {
		t.Fatal(err)
	}
	_, err := r.Introduce(t.Context(), hostAddr, request(t, token, newKey(t)))
	r.refusal(err, http.StatusForbidden, "or retired")
	if r.store.Allowed("web1") {
		t.Error("it is let into etcd again")
	}
	if _, err := r.Introduce(t.Context(), hostAddr, request(t, r.mint(), newKey(t))); err != nil { // booted anew
		t.Error(err)
	}
}

func TestOneOfManyWins(t *testing.T) {
	r := newRig(t)
	token := r.mint()
	var won atomic.Int32
	var wg sync.WaitGroup
	for range 12 {
		in := request(t, token, newKey(t))
		wg.Go(func() {
			_, err := r.Introduce(t.Context(), hostAddr, in)
			var refusal *Refusal
			switch {
			case err == nil:
				won.Add(1)
			case !errors.As(err, &refusal) || refusal.Status != http.StatusConflict && refusal.Status != http.StatusForbidden:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 || r.joined.Load() != 1 {
		t.Errorf("%d won, %d joined", won.Load(), r.joined.Load())
	}
	if all := r.audit("web1"); len(all) != 13 { // with the minting
		t.Errorf("%d entries in the audit", len(all))
	}
}

func TestCertificateOfUnknownKeys(t *testing.T) {
	r, first, second := newRig(t), newKey(t), newKey(t)
	for _, key := range []*ecdsa.PrivateKey{first, second} {
		if _, err := r.Introduce(t.Context(), hostAddr, request(t, r.mint(), key)); err != nil {
			t.Fatal(err)
		}
	}
	for _, hash := range []string{"", "x", "../x", keyHash(t, newKey(t)), keyHash(t, first)} {
		_, err := r.Certificate(t.Context(), hash)
		var refusal *Refusal
		if !errors.As(err, &refusal) || refusal.Status != http.StatusNotFound {
			t.Errorf("%q: %v", hash, err)
		}
	}
	if _, err := r.Certificate(t.Context(), keyHash(t, second)); err != nil {
		t.Error(err)
	}
}

func TestRenew(t *testing.T) {
	r := newRig(t)
	keys := []*ecdsa.PrivateKey{newKey(t), newKey(t), newKey(t), newKey(t)}
	out, err := r.Introduce(t.Context(), hostAddr, request(t, r.mint(), keys[0]))
	if err != nil {
		t.Fatal(err)
	}
	certs := []*x509.Certificate{r.certificate(out)}
	renew := func(with int, to int) error {
		out, err := r.Renew(t.Context(), hostAddr, certs[with], "web1", csrOf(t, keys[to]))
		if err == nil {
			certs = append(certs, r.certificate(out))
		}
		return err
	}
	for i, want := range []error{renew(0, 1), renew(0, 2), renew(2, 3)} { // the answer to the first was lost
		if want != nil {
			t.Fatal(i, want)
		}
	}
	in, _, _ := r.store.Introduction(t.Context(), "web1")
	if in.KeyHash != keyHash(t, keys[3]) || in.Boot != "b1" || in.Recipient == "" || in.MAC != hostMAC || in.Address != hostAddr {
		t.Errorf("record %+v", in)
	}
	for _, old := range []int{0, 1} { // keys of before
		r.refusal(renew(old, 1), http.StatusForbidden, "introduced again with another key")
	}
	if err := func() error {
		_, err := r.Renew(t.Context(), hostAddr, certs[3], "web1", "x")
		return err
	}(); err == nil {
		t.Error("renewed without a request")
	}
	if _, err := r.Introduce(t.Context(), hostAddr, request(t, r.mint(), newKey(t))); err != nil {
		t.Fatal(err)
	}
	r.refusal(renew(3, 1), http.StatusForbidden, "introduced again with another key")
	if err := r.store.ForgetNode(t.Context(), "web1"); err != nil {
		t.Fatal(err)
	}
	r.refusal(renew(3, 1), http.StatusForbidden, "was retired")
}

// faulty is a store of which one call fails.
type faulty struct {
	*clustertest.Memory
	fail string
}

var errDown = errors.New("etcd is down")

func (f *faulty) Alive(ctx context.Context, h cluster.HostName) (bool, error) {
	if f.fail == "alive" {
		return false, errDown
	}
	return f.Memory.Alive(ctx, h)
}

func (f *faulty) Introduction(ctx context.Context, h cluster.HostName) (cluster.Introduction, cluster.Revision, error) {
	if f.fail == "introduction" {
		return cluster.Introduction{}, 0, errDown
	}
	return f.Memory.Introduction(ctx, h)
}

func (f *faulty) AllowNode(ctx context.Context, h cluster.HostName) error {
	if f.fail == "allow" {
		return errDown
	}
	return f.Memory.AllowNode(ctx, h)
}

func (f *faulty) Redeem(ctx context.Context, hash string, t cluster.Token, at cluster.Revision, in cluster.Introduction) error {
	if f.fail == "redeem" {
		return errDown
	}
	return f.Memory.Redeem(ctx, hash, t, at, in)
}

// TestOurFaultsAreNoRefusals has etcd fail at each step: the host is not turned
// away, and gets in when it asks again.
func TestOurFaultsAreNoRefusals(t *testing.T) {
	for _, step := range []string{"alive", "introduction", "redeem", "allow"} {
		r, key := newRig(t), newKey(t)
		f := &faulty{Memory: r.store}
		r.Records, r.Nodes = f, f
		token := r.mint()
		f.fail = step
		in := request(t, token, key)
		if _, err := r.Introduce(t.Context(), hostAddr, in); !errors.Is(err, errDown) {
			t.Errorf("%s: %v", step, err)
		}
		f.fail = ""
		_, err := r.Introduce(t.Context(), hostAddr, in)
		if step == "allow" { // the token has held: its answer is fetched
			_, err = r.Certificate(t.Context(), keyHash(t, key))
		}
		if err != nil || !r.store.Allowed("web1") {
			t.Errorf("%s: afterwards %v", step, err)
		}
	}
}

// TestHangingUpIsAudited has a stranger close the connection with the request.
func TestHangingUpIsAudited(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r.Auditor = auditFunc(func(ctx context.Context, e cluster.AuditEntry) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return r.store.Audit(ctx, e)
	})
	_, err := r.Introduce(ctx, hostAddr, Request{Token: "x"})
	r.refusal(err, http.StatusForbidden, "never made")
}

type auditFunc func(ctx context.Context, e cluster.AuditEntry) error

func (f auditFunc) Audit(ctx context.Context, e cluster.AuditEntry) error { return f(ctx, e) }

// TestStrangersFillNothing has a stranger ask without end: what is written is
// bounded, and says what was left out.
func TestStrangersFillNothing(t *testing.T) {
	r := newRig(t)
	r.CA = openCA(t, t.TempDir())
	for range auditBurst + 500 {
		_, _ = r.Introduce(t.Context(), hostAddr, Request{Token: "x"})
	}
	all := r.audit("")
	if len(all) > auditBurst+2 {
		t.Errorf("%d entries", len(all))
	}
	// A token that was made is still heard of.
	in := request(t, r.mint(), newKey(t))
	_, err := r.Introduce(t.Context(), netip.MustParseAddr("10.0.0.6"), in)
	r.refusal(err, http.StatusForbidden, "was made for 10.0.0.5")
	r.limits.unknown.rate = nil // time goes by
	_, err = r.Introduce(t.Context(), hostAddr, Request{Token: "x"})
	r.refusal(err, http.StatusForbidden, "never made")
	if all = r.audit(""); !strings.Contains(all[len(all)-1].Detail, "(500 entries like this were left out before)") {
		t.Errorf("audit %+v", all[len(all)-1])
	}

	for n := range mintBurst + 1 {
		_, err = r.Mint(t.Context(), Bearer{Host: "web2", Address: hostAddr})
		if n < mintBurst && err != nil {
			t.Fatal(n, err)
		}
	}
	if !errors.Is(err, ErrTooMany) {
		t.Errorf("after %d tokens: %v", mintBurst, err)
	}
	if _, err := r.Mint(t.Context(), Bearer{Host: "web3", Address: hostAddr}); err != nil {
		t.Errorf("another host: %v", err)
	}
}
