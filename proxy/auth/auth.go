package auth

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// Robot is a secret with a name, for machines.
type Robot struct {
	Name    string    // robot:<Name> in rules
	Hash    [32]byte  // SHA-256 of the secret
	Expires time.Time // zero = never
}

// Robots are the robots that are known at the moment.
type Robots interface {
	// Robots returns all of them, expired ones too.
	Robots(ctx context.Context) ([]Robot, error)
}

// Options of a Controller. The zero Options let this machine pull, and nobody
// else do anything.
type Options struct {
	// Service names this registry in challenges and in its own tokens. Default "sluice".
	Service string
	// Rules allow. Without any, requests from this machine may pull without a name.
	Rules []Rule
	// Htpasswd is a file of user:bcrypt lines; "" = no users.
	Htpasswd string
	// Robots are asked on each request that names one; nil = there are none.
	Robots Robots
	// Issuers are whose OIDC tokens are accepted.
	Issuers []Issuer
	// Certificates tells that TLS verifies client certificates.
	Certificates bool
	// Key signs our own tokens; replicas share it. nil = a new one, so that tokens
	// end with the process.
	Key ed25519.PrivateKey
	// TokenTTL is how long our own tokens last. Default 5 minutes.
	TokenTTL time.Duration
	// Canonical returns the canonical repository name for one that a client wrote
	// without ns, and whether it belongs to the gated registry.
	Canonical func(asked string) (name string, local bool, err error)
	// Realm is the address of the token endpoint; "" = /auth/token at the host
	// that the client asked.
	Realm string
	// Requests is how many requests one identity, or one address without a name (of
	// IPv6 a /64), may make within Per; 0 = any number. Guesses of passwords have a
	// bound of their own, always.
	Requests int
	Per      time.Duration

	Log *zap.Logger
	Now func() time.Time // nil = time.Now
}

// Controller answers who asks and what they may do. It is safe for concurrent
// use.
type Controller struct {
	opts    Options
	rules   []rule
	users   atomic.Pointer[users]
	issuers []*issuer
	signer  *signer
	limits  *limiter
	guesses guesses
}

// New returns a Controller, or all that is wrong with opts.
func New(opts Options) (*Controller, error) {
	if opts.Service == "" {
		opts.Service = "sluice"
	}
	if opts.TokenTTL <= 0 {
		opts.TokenTTL = 5 * time.Minute
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	c := &Controller{opts: opts, limits: newLimiter(opts.Requests, opts.Per)}
	var problems []error
	for i, r := range opts.Rules {
		compiled, err := r.compile()
		if err != nil {
			problems = append(problems, fmt.Errorf("rules[%d]: %w", i, err))
		}
		c.rules = append(c.rules, compiled)
	}
	names := map[string]bool{}
	for _, i := range opts.Issuers {
		compiled, err := newIssuer(i, opts.Now)
		if err == nil && names[i.Name] {
			err = errors.New("there are two of this name")
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("OIDC issuer %q: %w", i.Name, err))
			continue
		}
		names[i.Name] = true
		c.issuers = append(c.issuers, compiled)
	}
	if opts.Key == nil {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		c.opts.Key = key
	}
	signer, err := newSigner(c.opts.Key, c.opts.Service, opts.Now)
	problems = append(problems, err, c.Reload())
	c.signer = signer
	return c, errors.Join(problems...)
}

// Reload reads the htpasswd file again. On an error the old users stay.
func (c *Controller) Reload() error {
	u, err := readUsers(c.opts.Htpasswd)
	if err != nil {
		return err
	}
	c.users.Store(u)
	return nil
}

// named reports whether there is any way to have a name.
func (c *Controller) named(ctx context.Context) bool {
	if c.opts.Htpasswd != "" || len(c.issuers) > 0 || c.opts.Certificates {
		return true
	}
	if c.opts.Robots == nil {
		return false
	}
	robots, err := c.opts.Robots.Robots(ctx)
	return err != nil || len(robots) > 0
}

// ErrCredentials says that the request's credentials are not accepted. The
// reason is for the log: a client is not told which part was wrong.
var ErrCredentials = errors.New("the credentials are not accepted")

// ChallengeError asks the client for credentials, or for better ones (RFC 9110,
// section 11.6.1).
type ChallengeError struct {
	Header string // value of WWW-Authenticate
	Reason string
}

// Error is what the client is told.
func (e *ChallengeError) Error() string { return e.Reason }

// ForbiddenError says that an identity lacks a right.
type ForbiddenError struct {
	Identity   Identity
	Action     Action
	Repository string
}

// Error is what the client is told.
func (e *ForbiddenError) Error() string {
	return fmt.Sprintf("%s may not %s %s: no rule of this registry allows it (auth.rules); ask its operator", e.Identity, e.Action, e.Repository)
}

// LimitedError says that an identity asks too often, or that too many passwords
// were tried.
type LimitedError struct {
	Identity   Identity
	Guesses    bool // by whoever is at the address
	RetryAfter time.Duration
}

// Error is what the client is told.
func (e *LimitedError) Error() string {
	if e.Guesses {
		return fmt.Sprintf("too many passwords are tried; try yours again in %s", max(e.RetryAfter, time.Second).Round(time.Second))
	}
	return fmt.Sprintf("too many requests by %s; ask again in %s", e.Identity, e.RetryAfter.Round(time.Second))
}

// Identify returns who asks, counting the request against their rate. Without
// credentials that is nobody, which is no error; credentials that are wrong are
// a *ChallengeError, too many requests a *LimitedError.
func (c *Controller) Identify(r *http.Request) (Identity, error) {
	id, err := c.identify(r)
	if err != nil {
		// A guess costs as much as a request, by address: a name may be made up.
		if wait := c.limits.take("address:" + network(r)); wait > 0 {
			return Identity{}, &LimitedError{Identity: Identity{}, RetryAfter: wait}
		}
		if errors.Is(err, ErrCredentials) {
			c.opts.Log.Info("credentials refused", zap.String("client", address(r)), zap.Error(err))
			return Identity{}, c.challenge(r, "", "", ErrCredentials.Error())
		}
		return Identity{}, err
	}
	key := id.Name
	if id.Anonymous() {
		key = "address:" + network(r)
	}
	if wait := c.limits.take(key); wait > 0 {
		return id, &LimitedError{Identity: id, RetryAfter: wait}
	}
	return id, nil
}

func (c *Controller) identify(r *http.Request) (Identity, error) {
	local := isLocal(r)
	scheme, credentials, given := strings.Cut(r.Header.Get("Authorization"), " ")
	switch {
	case len(r.Header.Values("Authorization")) > 1:
		return Identity{}, fmt.Errorf("%w: more than one Authorization header", ErrCredentials)
	case !given && r.Header.Get("Authorization") != "":
		return Identity{}, fmt.Errorf("%w: Authorization without credentials", ErrCredentials)
	case !given:
		return Identity{Name: certificateName(r), Local: local}, nil
	}
	id := Identity{}
	var err error
	switch strings.ToLower(scheme) {
	case "basic":
		user, password, ok := r.BasicAuth()
		if !ok {
			return Identity{}, fmt.Errorf("%w: Basic credentials cannot be read", ErrCredentials)
		}
		id, err = c.password(r.Context(), network(r), user, password)
	case "bearer":
		id, err = c.bearer(r.Context(), strings.TrimSpace(credentials))
	default:
		err = fmt.Errorf("%w: the scheme %q is neither Basic nor Bearer", ErrCredentials, scheme)
	}
	id.Local = local
	return id, err
}

// Authorize returns nil if id may do a in the repository. asked is the name as
// the client wrote it, which is what the scopes of its token name. The error is
// a *ChallengeError where a name, or another token, may help, else a
// *ForbiddenError.
func (c *Controller) Authorize(r *http.Request, id Identity, a Action, repository, asked string) error {
	switch {
	case c.allowed(id, repository, a) && id.within(asked, a):
		return nil
	case c.allowed(id, repository, a): // the token is for something else
		return c.challenge(r, asked, a, fmt.Sprintf("the token's scopes do not cover %s of %s", a, asked))
	case id.Anonymous() && c.named(r.Context()):
		return c.challenge(r, asked, a, fmt.Sprintf("%s of %s needs credentials", a, repository))
	}
	return &ForbiddenError{Identity: id, Action: a, Repository: repository}
}

// Allowed reports whether id may do a in the repository.
func (c *Controller) Allowed(id Identity, a Action, repository string) bool {
	return c.allowed(id, repository, a)
}

func (c *Controller) allowed(id Identity, repository string, a Action) bool {
	if len(c.rules) == 0 {
		return a == Pull && (id.Local || !id.Anonymous())
	}
	for _, r := range c.rules {
		if r.allows(id, repository, a) {
			return true
		}
	}
	return false
}

// Ping answers /v2/ itself: clients learn from it how to authenticate, so
// nobody is challenged wherever names exist.
func (c *Controller) Ping(r *http.Request, id Identity) error {
	if id.Anonymous() && !id.scoped && c.named(r.Context()) {
		return c.challenge(r, "", "", "credentials are wanted, or an anonymous token")
	}
	return nil
}

// challenge names the token endpoint (RFC 6750, section 3).
func (c *Controller) challenge(r *http.Request, asked string, a Action, reason string) error {
	realm := c.opts.Realm
	if realm == "" {
		scheme := "http"
		if r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https" {
			scheme = "https" // believed: it changes where a client sends its own credentials back to this very host
		}
		realm = scheme + "://" + r.Host + TokenPath
	}
	h := fmt.Sprintf("Bearer realm=%q,service=%q", realm, c.opts.Service)
	if asked != "" {
		want := string(a)
		if a != Pull {
			want = string(Pull) + "," + want
		}
		h += fmt.Sprintf(",scope=%q", "repository:"+asked+":"+want)
	}
	return &ChallengeError{Header: h, Reason: reason}
}

// certificateName is the identity of a verified client certificate, "" without one.
func certificateName(r *http.Request) string {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return ""
	}
	leaf := r.TLS.VerifiedChains[0][0]
	switch {
	case len(leaf.URIs) > 0:
		return "cert:" + leaf.URIs[0].String()
	case len(leaf.DNSNames) > 0:
		return "cert:" + leaf.DNSNames[0]
	case leaf.Subject.CommonName != "":
		return "cert:" + leaf.Subject.CommonName
	}
	return "cert:" + leaf.SerialNumber.String()
}

// isLocal reports whether the request comes from this machine and from nobody
// behind a reverse proxy on it.
func isLocal(r *http.Request) bool {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !ap.Addr().Unmap().IsLoopback() {
		return false
	}
	for _, h := range []string{"X-Forwarded-For", "X-Real-Ip", "Forwarded", "Via"} {
		if r.Header.Get(h) != "" {
			return false
		}
	}
	return true
}

// address is the client's address without the port.
func address(r *http.Request) string {
	if ap, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		return ap.Addr().Unmap().String()
	}
	return r.RemoteAddr
}
