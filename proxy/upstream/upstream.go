package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
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
	// sensible time-outs and without transparent decompression.
	Base http.RoundTripper
	// Observe is called after each answer with the upstream's name, the kind of
	// the request (manifest, blob, tags, token) and the status, 0 for none.
	Observe func(upstream, kind string, status int)
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
	if opts.Base == nil {
		opts.Base = defaultTransport()
	}
	if opts.Observe == nil {
		opts.Observe = func(string, string, int) {}
	}
	c := &Client{ups: make(map[string]*Upstream, len(opts.Upstreams))}
	for _, cfg := range opts.Upstreams {
		u, err := newUpstream(cfg, opts)
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
	name    string
	base    *url.URL
	reg     name.Registry
	auth    authn.Authenticator // nil = ask the keychain
	keys    authn.Keychain
	rt      http.RoundTripper
	observe func(upstream, kind string, status int)

	group singleflight.Group // one ping and token exchange per repository at a time
	mu    sync.Mutex
	repos map[string]*http.Client // by repository
}

// maxRepos bounds the authorised transports that are kept. Past it all are
// dropped: a token is fetched again, nothing else is lost.
const maxRepos = 4096

func newUpstream(cfg Config, opts Options) (*Upstream, error) {
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
	u := &Upstream{
		name: cfg.Name, base: base, reg: reg, keys: opts.Keychain, observe: opts.Observe,
		rt:    &oneScheme{scheme: base.Scheme, host: base.Host, inner: opts.Base},
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
	u.mu.Lock()
	c, ok := u.repos[repo]
	u.mu.Unlock()
	if ok {
		return c, nil
	}
	res := u.group.DoChan(repo, func() (any, error) {
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
	rt, err := transport.NewWithContext(ctx, u.reg, auth, u.rt, []string{scope})
	u.observe(u.name, "token", statusOf(err))
	if err != nil {
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

// oneScheme keeps the registry library from trying another scheme on the
// upstream's host than the configured one.
type oneScheme struct {
	scheme, host string
	inner        http.RoundTripper
}

func (o *oneScheme) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host == o.host && r.URL.Scheme != o.scheme {
		return nil, fmt.Errorf("%s is configured for %s only", o.host, o.scheme)
	}
	return o.inner.RoundTrip(r)
}

const (
	dialTimeout      = 10 * time.Second
	headerTimeout    = 30 * time.Second
	handshakeTimeout = 30 * time.Second // ping and token exchange together
)

func defaultTransport() http.RoundTripper {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:   dialTimeout,
		ResponseHeaderTimeout: headerTimeout,
		ExpectContinueTimeout: time.Second,
		IdleConnTimeout:       90 * time.Second,
		MaxIdleConns:          256,
		MaxIdleConnsPerHost:   32,
		ForceAttemptHTTP2:     true,
		DisableCompression:    true, // digests cover the bytes as sent
	}
}
