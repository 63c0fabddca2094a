package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	jose "github.com/go-jose/go-jose/v4"
)

// Issuer is an OpenID Connect provider whose tokens are accepted: of people, of
// CI workloads, of Kubernetes service accounts.
type Issuer struct {
	Name     string // in identities: oidc:<Name>:<subject>
	URL      string // the exact iss claim
	Audience string // that must be among the aud claim's
	JWKS     string // https URL of its keys (RFC 7517); http only for loopback hosts
	// Groups is the claim that lists the holder's groups; "" = none.
	Groups string
	// Require are claims that must have exactly these values, such as the id of
	// a repository's owner, which no look-alike name can have.
	Require map[string]string
	// Client fetches the keys; nil = a client with a time-out of its own.
	Client *http.Client
}

// algorithms are the asymmetric ones: with them nobody who can verify can sign.
var algorithms = []string{
	oidc.RS256, oidc.RS384, oidc.RS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.EdDSA,
}

type issuer struct {
	Issuer
	verifier *oidc.IDTokenVerifier
}

func newIssuer(i Issuer, now func() time.Time) (*issuer, error) {
	switch {
	case i.Name == "" || strings.ContainsAny(i.Name, ": *"):
		return nil, errors.New("name: one word without colons and stars")
	case i.URL == "":
		return nil, errors.New("issuer: missing")
	case i.Audience == "":
		return nil, errors.New("audience: missing; without one, tokens for other services would be accepted")
	}
	u, err := url.Parse(i.JWKS)
	if err != nil || u.Host == "" || u.Scheme != "https" && (u.Scheme != "http" || !slices.Contains([]string{"127.0.0.1", "::1", "localhost"}, u.Hostname())) {
		return nil, fmt.Errorf("jwks: %q is not an https URL", i.JWKS)
	}
	if i.Client == nil {
		i.Client = &http.Client{Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("redirects of the keys' URL are not followed")
		}}
	}
	keys := &keySet{url: i.JWKS, client: i.Client, now: now}
	return &issuer{Issuer: i, verifier: oidc.NewVerifier(i.URL, keys, &oidc.Config{
		ClientID: i.Audience, SupportedSigningAlgs: algorithms, Now: now,
	})}, nil
}

// identify verifies the token and its claims.
func (i *issuer) identify(ctx context.Context, raw string) (Identity, error) {
	tok, err := i.verifier.Verify(ctx, raw)
	if err != nil {
		return Identity{}, fmt.Errorf("%w: issuer %s: %w", ErrCredentials, i.Name, err)
	}
	var all map[string]any
	if err := tok.Claims(&all); err != nil {
		return Identity{}, fmt.Errorf("%w: issuer %s: %w", ErrCredentials, i.Name, err)
	}
	if tok.Subject == "" {
		return Identity{}, fmt.Errorf("%w: issuer %s: no subject", ErrCredentials, i.Name)
	}
	for k, want := range i.Require {
		if got, ok := all[k]; !ok || fmt.Sprint(got) != want {
			return Identity{}, fmt.Errorf("%w: issuer %s: the claim %s is %v, not %q", ErrCredentials, i.Name, k, got, want)
		}
	}
	id := Identity{Name: "oidc:" + i.Name + ":" + tok.Subject}
	if list, ok := all[i.Groups].([]any); ok && i.Groups != "" {
		for _, g := range list {
			if s, ok := g.(string); ok {
				id.Groups = append(id.Groups, i.Name+":"+s)
			}
		}
	}
	return id, nil
}

const (
	keysFresh   = time.Hour        // after that the keys are fetched again
	keysStale   = 24 * time.Hour   // the longest time that keys count which cannot be fetched again
	keysRetry   = 10 * time.Second // the shortest time between two fetches: unknown key ids cost the issuer no more
	maxJWKS     = 1 << 20          // bytes
	maxJWKSKeys = 64
)

// keySet are an issuer's keys. Unlike the library's own it drops keys that the
// issuer withdrew, and asks at a bounded rate.
type keySet struct {
	url    string
	client *http.Client
	now    func() time.Time

	mu    sync.Mutex
	keys  []jose.JSONWebKey
	got   time.Time // when keys were fetched
	tried time.Time
	err   error // of the last try
}

// VerifySignature returns the payload of a JWT signed by one of the keys.
func (s *keySet) VerifySignature(ctx context.Context, raw string) ([]byte, error) {
	algs := make([]jose.SignatureAlgorithm, len(algorithms))
	for i, a := range algorithms {
		algs[i] = jose.SignatureAlgorithm(a)
	}
	jws, err := jose.ParseSigned(raw, algs)
	if err != nil {
		return nil, err
	}
	if len(jws.Signatures) != 1 {
		return nil, errors.New("not exactly one signature")
	}
	kid := jws.Signatures[0].Header.KeyID
	keys, err := s.current(ctx, kid)
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		if kid != "" && k.KeyID != kid || !k.Valid() || !k.IsPublic() {
			continue
		}
		if payload, err := jws.Verify(k.Key); err == nil {
			return payload, nil
		}
	}
	return nil, errors.New("none of the issuer's keys signed it")
}

// current returns the keys, fetched again when they are old or do not have kid.
func (s *keySet) current(ctx context.Context, kid string) ([]jose.JSONWebKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	age := now.Sub(s.got)
	known := slices.ContainsFunc(s.keys, func(k jose.JSONWebKey) bool { return kid == "" || k.KeyID == kid })
	if s.got.IsZero() || age >= keysFresh || !known {
		if now.Sub(s.tried) >= keysRetry {
			s.tried = now
			var keys []jose.JSONWebKey
			if keys, s.err = s.fetch(ctx); s.err == nil {
				s.keys, s.got, age = keys, now, 0
			}
		}
	}
	if s.got.IsZero() || age >= keysStale {
		return nil, fmt.Errorf("the issuer's keys: %w", errors.Join(s.err, ctx.Err()))
	}
	return s.keys, nil
}

func (s *keySet) fetch(ctx context.Context) ([]jose.JSONWebKey, error) {
	req, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodGet, s.url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // only read
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s", s.url, resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxJWKS+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxJWKS {
		return nil, fmt.Errorf("%s: more than %d bytes", s.url, maxJWKS)
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &set); err != nil {
		return nil, fmt.Errorf("%s: %w", s.url, err)
	}
	if len(set.Keys) > maxJWKSKeys {
		return nil, fmt.Errorf("%s: more than %d keys", s.url, maxJWKSKeys)
	}
	var keys []jose.JSONWebKey
	for _, raw := range set.Keys {
		var k jose.JSONWebKey
		if json.Unmarshal(raw, &k) == nil { // else of a type that we could not verify with anyway
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s: no usable key", s.url)
	}
	return keys, nil
}
