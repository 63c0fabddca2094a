package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"golang.org/x/sync/singleflight"
)

// Config describes one upstream.
type Config struct {
	Name     string // canonical name: docker.io
	URL      string // base address: https://registry-1.docker.io
	Username string // "" = look in the keychain
	Password string
	Token    string // a registry token to send as it is; goes before Username
	// AllowPrivate lets the upstream, its redirects and its token server stand
	// at loopback, private, link-local and other addresses that are not of the
	// public internet. A URL that names such an address itself, or localhost,
	// implies it. Addresses of cloud metadata services are never allowed.
	AllowPrivate bool
	Budget       Budget // zero = none
}

// Options of a Client.
type Options struct {
	Upstreams []Config
	// Keychain gives credentials for upstreams without configured ones. Nil
	// means Docker's config.json and its credential helpers.
	Keychain authn.Keychain
	// Anonymous turns the Keychain off.
	Anonymous bool
	// Base is the transport under the authentication. Nil means one with
	// sensible time-outs, without transparent decompression, and with the guard
	// that AllowPrivate lifts; it honours HTTP_PROXY, HTTPS_PROXY and NO_PROXY,
	// and connects to those proxies wherever they stand. A Base of the caller's
	// own dials by its own rules.
	Base http.RoundTripper
	// Stall is how long may pass in waiting for a body before 1 KiB has come,
	// or its end; then it fails with an *UnreachableError. 0 means a minute.
	Stall time.Duration
	// BreakAfter is the number of failures in a row (no connection, 5xx) after
	// which calls to an upstream fail at once, for 5 s at first and a minute at
	// most. 0 means 8, less means never.
	BreakAfter int
	// Observe is called after each answer with the upstream's name, the kind of
	// the request (manifest, blob, tags, referrers, token) and the status, 0 for
	// none.
	Observe func(upstream, kind string, status int)
	// RateLimit is called after each answer that tells the upstream's quota of
	// pulls (Docker Hub's ratelimit-limit and ratelimit-remaining headers) with
	// its size, what is left of it, and its window, 0 if that is not told.
	RateLimit func(upstream string, limit, remaining int, window time.Duration)
}

// Client talks to the configured upstreams. It is safe for concurrent use.
type Client struct {
	ups map[string]*Upstream
}

// ErrUnknown is returned for an upstream that is not configured.
var ErrUnknown = errors.New("upstream is not configured")

// New returns a client. It dials nothing yet.
func New(opts Options) (*Client, error) {
	switch {
	case opts.Anonymous:
		opts.Keychain = authn.NewMultiKeychain() // of none
	case opts.Keychain == nil:
		opts.Keychain = authn.DefaultKeychain
	}
	public, private := opts.Base, opts.Base
	if opts.Base == nil {
		public, private = newTransport(publicOnly), newTransport(noMetadata)
	}
	if opts.Stall == 0 {
		opts.Stall = stall
	}
	if opts.BreakAfter == 0 {
		opts.BreakAfter = breakAfter
	}
	if opts.Observe == nil {
		opts.Observe = func(string, string, int) {}
	}
	if opts.RateLimit == nil {
		opts.RateLimit = func(string, int, int, time.Duration) {}
	}
	c := &Client{ups: make(map[string]*Upstream, len(opts.Upstreams))}
	for _, cfg := range opts.Upstreams {
		u, err := newUpstream(cfg, opts, public, private)
		if err != nil {
			return nil, fmt.Errorf("upstream %s: %w", cfg.Name, err)
		}
		c.ups[cfg.Name] = u
	}
	return c, nil
}

// Upstream returns the upstream called name, or ErrUnknown.
func (c *Client) Upstream(name string) (*Upstream, error) {
	u, ok := c.ups[name]
	if !ok {
		return nil, fmt.Errorf("%q: %w", name, ErrUnknown)
	}
	return u, nil
}

// Upstream is one registry.
type Upstream struct {
	name      string
	base      *url.URL
	reg       name.Registry
	auth      authn.Authenticator // nil = ask the keychain
	keys      authn.Keychain
	rt        http.RoundTripper
	stall     time.Duration
	breaker   breaker
	budget    window
	observe   func(upstream, kind string, status int)
	rateLimit func(upstream string, limit, remaining int, window time.Duration)

	noReferrers absent

	group singleflight.Group // one ping and token exchange per repository at a time
	mu    sync.Mutex
	repos map[string]*http.Client // by repository
}

// maxRepos bounds the authorised transports that are kept. Past it all are
// dropped: a token is fetched again, nothing else is lost.
const maxRepos = 4096

func newUpstream(cfg Config, opts Options, public, private http.RoundTripper) (*Upstream, error) {
	base, err := url.Parse(cfg.URL)
	if err != nil {
		return nil, err
	}
	if (base.Scheme != "http" && base.Scheme != "https") || base.Host == "" || strings.Trim(base.Path, "/") != "" || base.User != nil {
		return nil, fmt.Errorf("address %q: want http(s)://host[:port]", base.Redacted())
	}
	var nameOpts []name.Option
	if base.Scheme == "http" {
		nameOpts = append(nameOpts, name.Insecure)
	}
	reg, err := name.NewRegistry(base.Host, nameOpts...)
	if err != nil {
		return nil, err
	}
	if cfg.Budget.Requests < 0 || cfg.Budget.Requests > 0 && cfg.Budget.Per <= 0 {
		return nil, fmt.Errorf("budget of %d requests in %s: want both more than 0, or no budget", cfg.Budget.Requests, cfg.Budget.Per)
	}
	road := &steer{scheme: base.Scheme, host: base.Host, allowPrivate: cfg.AllowPrivate || literal(base.Hostname()) != "", inner: public}
	if road.allowPrivate {
		road.inner = private
	}
	u := &Upstream{
		name: cfg.Name, base: base, reg: reg, keys: opts.Keychain, rt: road,
		stall: opts.Stall, breaker: breaker{limit: opts.BreakAfter}, budget: window{Budget: cfg.Budget},
		observe: opts.Observe, rateLimit: opts.RateLimit,
		repos: make(map[string]*http.Client),
	}
	switch {
	case cfg.Token != "":
		u.auth = authn.FromConfig(authn.AuthConfig{RegistryToken: cfg.Token})
	case cfg.Username != "":
		u.auth = authn.FromConfig(authn.AuthConfig{Username: cfg.Username, Password: cfg.Password})
	}
	return u, nil
}

// client returns an HTTP client that is authorised to pull from repo. The
// exchange runs once for any number of callers and is not cut short when one
// of them leaves.
func (u *Upstream) client(ctx context.Context, repo string) (*http.Client, error) {
	if c, ok := u.authorized(repo); ok {
		return c, nil
	}
	res := u.group.DoChan(repo, func() (any, error) {
		if c, ok := u.authorized(repo); ok { // by an exchange that ended just now
			return c, nil
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), handshakeTimeout)
		defer cancel()
		return u.authorize(ctx, repo)
	})
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case r := <-res:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*http.Client), nil //nolint:errcheck,forcetypeassert // authorize returns nothing else
	}
}

func (u *Upstream) authorized(repo string) (*http.Client, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	c, ok := u.repos[repo]
	return c, ok
}

func (u *Upstream) authorize(ctx context.Context, repo string) (*http.Client, error) {
	r, err := name.NewRepository(u.base.Host+"/"+repo, name.WithDefaultRegistry(u.base.Host))
	if err != nil {
		return nil, err
	}
	auth := u.auth
	if auth == nil {
		res, err := u.resource(repo)
		if err != nil {
			return nil, err
		}
		if auth, err = authn.Resolve(ctx, u.keys, res); err != nil {
			return nil, fmt.Errorf("credentials from Docker's config: %w", err)
		}
	}
	scope := r.Scope(transport.PullScope)
	ctx, heard := hear(ctx)
	rt, err := transport.NewWithContext(ctx, u.reg, auth, u.rt, []string{scope})
	u.observe(u.name, kindToken, statusOf(err))
	if err != nil {
		err = heard.tell(u, err)
		u.breaker.record(u.wrap(context.WithoutCancel(ctx), kindToken, err))
		return nil, err
	}
	c := &http.Client{Transport: rt}
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.repos) >= maxRepos {
		clear(u.repos)
	}
	u.repos[repo] = c
	return c, nil
}

// resource is the name under which Docker's config.json knows the upstream:
// credentials for docker.io stand under index.docker.io, whatever host serves it.
func (u *Upstream) resource(repo string) (authn.Resource, error) {
	known := u.name
	if !strings.ContainsAny(known, ".:") {
		known = u.base.Host // a name of one's own, such as "up"
	}
	reg, err := name.NewRegistry(known)
	if err != nil {
		return nil, err
	}
	return reg.Repo(repo), nil
}

func statusOf(err error) int {
	var te *transport.Error
	switch {
	case err == nil:
		return http.StatusOK
	case errors.As(err, &te):
		return te.StatusCode
	}
	return 0
}
