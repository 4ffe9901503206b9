package httpboot

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/cluster"
)

// Errors by which Configs and Files say why not.
var (
	// ErrNotReady is for what may be there later: 503.
	ErrNotReady = errors.New("not ready")
	// ErrNotAcceptable is for a config in no version that the client reads: 406.
	ErrNotAcceptable = errors.New("not acceptable")
)

// Machine is one whose config is asked for.
type Machine struct {
	Host     *cluster.Host
	Target   cluster.Target
	Identity cluster.Identity // what it says of itself; the MAC is the one that its address is lent to
	Address  netip.Addr
	Boot     string // the ID of its current boot; empty when none was seen
	Server   boot.Server

	Installer bool // it is the installer that asks, not the system that it installs
	Running   bool // it may ask at any time, not only when it boots
}

// Body is a config, ready to be sent.
type Body struct {
	Data        []byte
	ContentType string
	Pointer     bool // it says only where the config is
}

// Configs makes what a machine is told. A call may mint a token, so it is made
// for a GET only, and what it returns is stored nowhere.
type Configs interface {
	Ignition(ctx context.Context, m Machine, accept string) (Body, error)
	CloudConfig(ctx context.Context, m Machine) (Body, error)
	UserData(ctx context.Context, m Machine, accept string) (Body, error) // one of the two, whichever the profile and the client are for
	NetworkConfig(ctx context.Context, m Machine) (Body, error)           // no data where nothing is said of the network
	Text(ctx context.Context, m Machine) (Body, error)                    // what another system's installer reads
	Setup(ctx context.Context, m Machine) (Body, error)                   // a program that makes a system the host
	Generic(ctx context.Context, m Machine) (Body, error)                 // which has no token in it
}

// Files opens the files of images.
type Files interface {
	// Open returns a file whose content has been verified. ErrNotReady says
	// that it is being fetched.
	Open(ctx context.Context, f cluster.File) (*os.File, error)
}

// Handler's defaults.
const (
	DefaultImages  = 128 // downloads of images at a time
	DefaultConfigs = 256 // configs and scripts being made at a time
	imageWait      = time.Minute
	configWait     = 5 * time.Second
	retryAfter     = "5" // seconds
)

// Handler serves all of it. Its fields are set before its first request and not
// changed after.
type Handler struct {
	Snapshot   func() *cluster.Snapshot
	Owner      func(netip.Addr) (cluster.Identity, bool) // the machine to which an address is lent, or that was seen to take it
	Neighbour  func(netip.Addr) (cluster.MAC, bool)      // the machine that answers for an address on a link of ours; may be nil
	Configs    Configs
	Files      Files
	Installs   *boot.Installs                       // where the installations of hosts stand; nil boots no installer
	Loaders    fs.FS                                // for UEFI HTTP Boot; nil serves none
	Agent      cluster.File                         // the agent's binary, opened through Files; zero serves none
	CA         func() []byte                        // PEM; nil serves none
	HTTPPort   uint16                               // which machines are told to come back to
	HTTPSPort  uint16                               // zero when there is none
	MaxImages  int                                  // default DefaultImages
	MaxConfigs int                                  // default DefaultConfigs
	At         func(*cluster.Network) boot.Server   // where machines of a network find this server, if they ask at boot.MetadataAddress; may be nil
	Wait       func(context.Context, Machine) error // why a machine is not to have its metadata yet; may be nil
	Sessions   *Sessions                            // of the metadata service; nil begins none
	Recorder   *boot.Recorder
	Logger     *slog.Logger          // nil is silence
	Registerer prometheus.Registerer // nil keeps the metrics to itself

	setUp   sync.Once
	mux     *http.ServeMux
	metrics *metrics
	images  gate
	configs gate
	booting booting
	warning *rate.Limiter // a stranger can provoke refusals: the log takes so many
}

func (h *Handler) init() {
	h.metrics = newMetrics(h.Registerer)
	h.images = newGate(h.MaxImages, DefaultImages, imageWait)
	h.configs = newGate(h.MaxConfigs, DefaultConfigs, configWait)
	h.warning = rate.NewLimiter(5, 100)
	h.mux = http.NewServeMux()
	handle := func(pattern, name string, g gate, f func(http.ResponseWriter, *http.Request) error) {
		h.mux.Handle("GET "+pattern, h.wrap(name, g, f)) // GET takes HEAD too
	}
	handle(boot.EntryPath, "entry", h.configs, h.entry)
	handle(boot.ScriptPath, "script", h.configs, h.script)
	handle(boot.IgnitionPath, "ignition", h.configs, h.ignition)
	handle(boot.CloudConfigPath, "cloud-config", h.configs, h.cloudConfig)
	handle(boot.SeedPath+"{mac}/{file}", "seed", h.configs, h.seed)
	handle(boot.SeedPath+"{mac}/"+boot.InstallerFolder+"{file}", "seed", h.configs, h.installerSeed)
	handle(boot.TextPath, "text", h.configs, h.plainText)
	handle(boot.SetupPath, "setup", h.configs, h.setup)
	handle(boot.ImagePath+"{image}/disk/{release}/{file}", "disk", h.images, h.disk)
	handle(boot.ImagePath+"{image}/kernel", "kernel", h.images, h.kernel)
	handle(boot.ImagePath+"{image}/initrd/{n}", "initrd", h.images, h.initrd)
	handle(boot.ImagePath+"{image}/rootfs", "rootfs", h.images, h.rootfs)
	handle(boot.LoaderPath+"{file...}", "loader", h.images, h.loader)
	handle(AgentPath+"{sha256}/pilotlight-agent", "agent", h.images, h.agent)
	handle(CAPath, "ca", h.configs, h.ca)
	handle(boot.EntryPath+".0", "entry", h.configs, h.entry)
	handle("/grub", "grub", h.configs, h.grub)
	handle("/cloud", "cloud-config", h.configs, h.cloudConfig)
	handle("/generic", "generic", h.configs, h.generic)
	handle("/metadata", "metadata", h.configs, h.metadata)
	handle(assetsPath+"{file...}", "asset", h.images, h.asset)
	h.handleMetadata(h.mux)
}

// Where the agent and the authority are, which the scripts do not name.
const (
	AgentPath = "/agent/"
	CAPath    = "/ca.pem"
)

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.setUp.Do(h.init)
	h.mux.ServeHTTP(w, r)
}

func (h *Handler) logger() *slog.Logger {
	if h.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return h.Logger
}

// gate lets so many through at a time; the others wait, and are turned away
// when that takes too long. Images and configs have a gate each, so that a
// storm of the one does not starve the other.
type gate struct {
	slots chan struct{}
	wait  time.Duration
}

func newGate(n, usual int, wait time.Duration) gate {
	if n <= 0 {
		n = usual
	}
	return gate{make(chan struct{}, n), wait}
}

func (g gate) enter(ctx context.Context) error {
	select {
	case g.slots <- struct{}{}:
		return nil
	default:
	}
	t := time.NewTimer(g.wait)
	defer t.Stop()
	select {
	case g.slots <- struct{}{}:
		return nil
	case <-t.C:
		return notReady("too many requests at a time")
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g gate) leave() { <-g.slots }
