package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	godigest "github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/proxy/auth"
	"github.com/sluiceproxy/sluice/proxy/fetch"
	"github.com/sluiceproxy/sluice/proxy/gate"
	"github.com/sluiceproxy/sluice/proxy/httpx"
	"github.com/sluiceproxy/sluice/proxy/local"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/records"
	"github.com/sluiceproxy/sluice/proxy/registry"
	"github.com/sluiceproxy/sluice/proxy/route"
	"github.com/sluiceproxy/sluice/proxy/store"
	"github.com/sluiceproxy/sluice/proxy/upload"
	"github.com/sluiceproxy/sluice/proxy/upstream"
	"github.com/sluiceproxy/sluice/signing"
)

// Upstream is a registry that images are pulled from.
type Upstream struct {
	upstream.Config
	Aliases []string // other names of it: index.docker.io
	Library bool     // a name of one component means library/<name>
}

// Options of a Server. All fields are required unless they say otherwise.
type Options struct {
	Listen          string // registry listener
	OpsListen       string // operations listener
	OpsToken        string // bearer token of the operations listener; "" = none, for loopback only
	TLSCert, TLSKey string // PEM files of the registry listener; "" = plain HTTP
	ClientCA        string // PEM file: who signs client certificates, which are not demanded; "" = none are asked for
	TrustedProxies  []netip.Prefix
	Data            string // folder of the content store
	CacheBytes      int64  // upstream content that is kept at most; 0 = until the disk is nearly full

	Upstreams       []Upstream
	NoDockerConfig  bool   // do not look for credentials in Docker's config.json
	DefaultUpstream string // "" = none
	LocalPrefix     string

	Hold            time.Duration   // see gate.Options
	Stream          bool            // see gate.Options
	Trickle         time.Duration   // time between the few bytes that leave of a withheld blob; 0 = 30 s
	TagTTL          time.Duration   // see gate.Options
	StaleIfError    time.Duration   // see gate.Options
	AnalysisTimeout time.Duration   // see gate.Options
	MaxAge          time.Duration   // see gate.Options
	WhenMissing     policy.Decision // see gate.Options
	WhenStale       policy.Decision // see gate.Options
	LongestWaiver   time.Duration   // see api.Deps
	HeaderTimeout   time.Duration   // longest wait for a request's header; 0 = 10 s
	Drain           time.Duration   // how long requests may go on after the stop

	Auth     auth.Options // without Canonical, Robots, Certificates, Log
	Registry Registry

	Policy     *policy.Policy
	PolicyFile string                                               // "" = the shipped policy
	ParseVEX   func(name string, data []byte) (analyzer.VEX, error) // see gate.Options
	Attest     *gate.Attest                                         // nil = nothing is attested
	Advisories Advisories
	Analyzer   *analyzer.Analyzer
	Records    *records.DB // stays the caller's to close, after Run
	Version    string
	Log        *zap.Logger
}

// Registry is the gated registry that teams push to. The zero value is none.
type Registry struct {
	Enabled   bool
	Mode      func(name string) gate.Mode // see gate.Options
	Immutable func(name, tag string) bool // see registry.Options
	Quotas    map[string]int64            // see local.Options
	MaxBlob   int64                       // bytes; 0 = any
	PushHold  time.Duration               // see gate.Options
	GCEvery   time.Duration               // 0 = never by itself
	GCGrace   time.Duration               // see local.Options
	Retention []local.Retention           // see local.Options
}

// Server is the proxy with its two listeners.
type Server struct {
	opts     Options
	gate     *gate.Gate
	fetch    *fetch.Manager
	store    *store.Store
	local    *local.Registry // nil = none
	pushed   *store.Store    // of local
	uploads  *upload.Manager // of local
	auth     *auth.Controller
	stopWork context.CancelFunc
	jobs     sync.WaitGroup // that operators started
	tls      atomic.Pointer[tls.Config]
	draining atomic.Bool
	broken   atomic.Pointer[error] // why the policy file is not in force

	registry, ops *http.Server
	regAddr       net.Listener
	opsAddr       net.Listener
}

// fetchGrace is how long a download without readers goes on: a client that
// comes back after a break finds it.
const (
	fetchGrace   = 30 * time.Second
	fetchRetries = 4
)

// New builds a server and opens its listeners, so that the caller knows their
// addresses. Run serves them; a Server that is not run must be closed.
func New(ctx context.Context, opts Options) (*Server, error) {
	if opts.HeaderTimeout <= 0 {
		opts.HeaderTimeout = 10 * time.Second
	}
	if opts.Trickle <= 0 {
		opts.Trickle = 30 * time.Second // 126 drops (see package registry) last an hour
	}
	s := &Server{opts: opts}
	metrics := prometheus.NewRegistry()
	table, ups, err := s.upstreams(metrics)
	if err != nil {
		return nil, err
	}
	if s.store, err = store.Open(filepath.Join(opts.Data, "cache"), store.Options{MaxBytes: opts.CacheBytes, Metrics: metrics, Log: opts.Log.Named("store")}); err != nil {
		return nil, err
	}
	if err := s.ReloadTLS(); err != nil {
		return nil, err
	}
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.stopWork = cancel
	s.fetch = fetch.New(work, fetch.Options{
		NewSink: func(_ context.Context, _ godigest.Digest, size int64) (fetch.Sink, error) {
			return s.store.NewSpool(size)
		},
		Stored: s.store.Has, Grace: fetchGrace, Retries: fetchRetries, Log: opts.Log.Named("fetch"),
	})
	if err := s.openRegistry(work, metrics); err != nil {
		s.Close()
		return nil, err
	}
	if s.auth, err = s.newAuth(table); err != nil {
		s.Close()
		return nil, fmt.Errorf("auth: %w", err)
	}
	s.gate = gate.New(work, opts.Policy, gate.Options{
		Hold: opts.Hold, Stream: opts.Stream, AnalysisTimeout: opts.AnalysisTimeout, TagTTL: opts.TagTTL, StaleIfError: opts.StaleIfError, MaxAge: opts.MaxAge, WhenMissing: opts.WhenMissing, WhenStale: opts.WhenStale,
		Local: s.local, Mode: opts.Registry.Mode, PushHold: opts.Registry.PushHold,
		ParseVEX: opts.ParseVEX, Attest: opts.Attest, Advisories: opts.Advisories, Analyzer: opts.Analyzer, Upstreams: ups, Store: s.store, Fetch: s.fetch,
		Records: opts.Records, Metrics: metrics, Log: opts.Log.Named("gate"),
	})
	ops, err := s.opsHandler(work, table, metrics)
	if err != nil {
		s.Close()
		return nil, err
	}
	s.registry = s.newHTTPServer(httpx.RealClient(opts.TrustedProxies, httpx.Middleware(opts.Log.Named("registry"), registry.New(registry.Options{
		Table: table, Gate: s.gate, Upstreams: ups, Auth: s.auth, Trickle: opts.Trickle,
		Local: s.local, Uploads: s.uploads, Immutable: opts.Registry.Immutable, Attestor: s.attestor(),
	}))))
	s.ops = s.newHTTPServer(httpx.Middleware(opts.Log.Named("ops"), ops))
	if err := s.listen(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Server) upstreams(metrics prometheus.Registerer) (*route.Table, *upstream.Client, error) {
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sluice_upstream_requests_total", Help: "Answers of upstreams, by kind of request and class of status.",
	}, []string{"upstream", "kind", "status"})
	quota := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "sluice_upstream_ratelimit_remaining", Help: "Requests that the upstream still allows in its window, by its own word.",
	}, []string{"upstream"})
	metrics.MustRegister(requests, quota)
	routes := make([]route.Upstream, len(s.opts.Upstreams))
	configs := make([]upstream.Config, len(s.opts.Upstreams))
	for i, u := range s.opts.Upstreams {
		routes[i] = route.Upstream{Name: u.Name, Aliases: u.Aliases, Library: u.Library}
		configs[i] = u.Config
	}
	table, err := route.NewTable(routes, s.opts.DefaultUpstream, s.opts.LocalPrefix)
	if err != nil {
		return nil, nil, err
	}
	ups, err := upstream.New(upstream.Options{
		Upstreams: configs, Anonymous: s.opts.NoDockerConfig,
		Observe: func(name, kind string, status int) {
			class := "none"
			if status > 0 {
				class = fmt.Sprintf("%dxx", status/100)
			}
			requests.WithLabelValues(name, kind, class).Inc()
		},
		RateLimit: func(name string, _, remaining int, _ time.Duration) {
			quota.WithLabelValues(name).Set(float64(remaining))
		},
	})
	return table, ups, err
}

const (
	idleTimeout = 2 * time.Minute
	maxHeader   = 64 << 10
)

func (s *Server) newHTTPServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: s.opts.HeaderTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: zap.NewStdLog(s.opts.Log.Named("http")),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			tune(c)
			return httpx.WithConn(ctx, c)
		},
	}
}

func (s *Server) listen(ctx context.Context) error {
	makeRoom()
	var lc net.ListenConfig
	var err error
	if s.regAddr, err = lc.Listen(ctx, "tcp", s.opts.Listen); err != nil {
		return fmt.Errorf("registry listener: %w", err)
	}
	if s.opts.TLSCert == "" {
		s.regAddr = httpx.Files(s.regAddr)
	} else {
		s.regAddr = tls.NewListener(s.regAddr, &tls.Config{
			MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
			GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.tls.Load(), nil },
		})
	}
	if s.opsAddr, err = lc.Listen(ctx, "tcp", s.opts.OpsListen); err != nil {
		return fmt.Errorf("operations listener: %w", err)
	}
	return nil
}

// Addr is the address of the registry listener.
func (s *Server) Addr() net.Addr { return s.regAddr.Addr() }

// OpsAddr is the address of the operations listener.
func (s *Server) OpsAddr() net.Addr { return s.opsAddr.Addr() }

// attestor is whose keys are published; nil = there is none.
func (s *Server) attestor() signing.Attestor {
	if s.opts.Attest == nil {
		return nil
	}
	return s.opts.Attest.Attestor
}

// SetPolicy swaps the policy; the next request is judged by it.
func (s *Server) SetPolicy(p *policy.Policy) { s.gate.SetPolicy(p) }

// PolicyFailed notes why the policy file could not be read again, so that
// readiness tells; nil = it could.
func (s *Server) PolicyFailed(err error) { s.broken.Store(&err) }

// SetVEX swaps the VEX documents that are obeyed; the next request is judged
// with them.
func (s *Server) SetVEX(v analyzer.VEX) { s.gate.SetVEX(v) }

// Rematch judges images again by new advisories: see gate.Gate.Rematch.
func (s *Server) Rematch(ctx context.Context, keys []records.PackageKey) (gate.Rematched, error) {
	return s.gate.Rematch(ctx, keys)
}

// ReloadTLS reads the certificate and the clients' authorities again. On an error the old one stays.
func (s *Server) ReloadTLS() error {
	if s.opts.TLSCert == "" {
		return nil
	}
	c, err := tls.LoadX509KeyPair(s.opts.TLSCert, s.opts.TLSKey)
	if err != nil {
		return fmt.Errorf("TLS certificate: %w", err)
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}, Certificates: []tls.Certificate{c}}
	if s.opts.ClientCA != "" {
		pem, err := os.ReadFile(s.opts.ClientCA)
		if err != nil {
			return fmt.Errorf("client certificates' authorities: %w", err)
		}
		conf.ClientCAs = x509.NewCertPool()
		if !conf.ClientCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("client certificates' authorities %s: no certificate in PEM", s.opts.ClientCA)
		}
		conf.ClientAuth = tls.VerifyClientCertIfGiven
	}
	s.tls.Store(conf)
	return nil
}

// ReloadUsers reads the htpasswd file again. On an error the old users stay.
func (s *Server) ReloadUsers() error { return s.auth.Reload() }

// Run serves until ctx ends. It then stops accepting, lets the requests under
// way go on for Options.Drain, ends shared work and returns nil.
func (s *Server) Run(ctx context.Context) error {
	defer s.Close()
	g, ctx := errgroup.WithContext(ctx)
	for srv, l := range map[*http.Server]net.Listener{s.registry: s.regAddr, s.ops: s.opsAddr} {
		g.Go(func() error {
			if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		})
	}
	g.Go(func() error { return s.collectGarbage(ctx) })
	g.Go(func() error {
		<-ctx.Done()
		s.draining.Store(true)
		s.opts.Log.Info("stopping", zap.Duration("drain", s.opts.Drain))
		dctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.opts.Drain)
		defer cancel()
		// The operations listener goes last, so that readiness can be asked.
		for _, srv := range []*http.Server{s.registry, s.ops} {
			if err := srv.Shutdown(dctx); err != nil {
				s.opts.Log.Warn("requests were cut", zap.Error(err))
				_ = srv.Close()
			}
		}
		return nil
	})
	return g.Wait()
}

// Close ends shared work and closes the listeners. It may be called again.
func (s *Server) Close() {
	for _, l := range []net.Listener{s.regAddr, s.opsAddr} {
		if l != nil {
			_ = l.Close()
		}
	}
	s.stopWork()
	s.jobs.Wait()
	if s.gate != nil {
		s.gate.Wait()
	}
	s.fetch.Wait()
	s.store.Close()
	if s.local != nil {
		s.uploads.Close()
		s.pushed.Close()
	}
}
