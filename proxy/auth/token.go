package auth

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"go.uber.org/zap"
)

// TokenPath is where TokenHandler belongs on the registry listener.
const TokenPath = "/auth/token"

// maxToken is the length of the longest bearer token that is looked at, in bytes.
const maxToken = 16 << 10

// signer makes and reads our own tokens: JWTs with EdDSA (RFC 8037), and the
// access claim of distribution's token specification.
type signer struct {
	key     ed25519.PrivateKey
	id      string
	service string
	sign    jose.Signer
	now     func() time.Time
}

func newSigner(key ed25519.PrivateKey, service string, now func() time.Time) (*signer, error) {
	if len(key) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("token key: not an Ed25519 private key")
	}
	sum := sha256.Sum256(key.Public().(ed25519.PublicKey)) //nolint:errcheck,forcetypeassert // its documented type
	id := base64.RawURLEncoding.EncodeToString(sum[:12])
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: jose.JSONWebKey{Key: key, KeyID: id}}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return nil, fmt.Errorf("token key: %w", err)
	}
	return &signer{key: key, id: id, service: service, sign: s, now: now}, nil
}

// claims are those of our own tokens.
type claims struct {
	jwt.Claims
	Groups []string `json:"groups,omitempty"`
	Access []scope  `json:"access"`
}

// anonymousSubject is the subject of a token for nobody. It is no identity's
// name, since those have a colon.
const anonymousSubject = "anonymous"

func (s *signer) token(id Identity, scopes []scope, ttl time.Duration) (string, error) {
	now := s.now()
	return jwt.Signed(s.sign).Claims(claims{
		Claims: jwt.Claims{
			Issuer: s.service, Audience: jwt.Audience{s.service}, Subject: id.String(),
			IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(ttl)),
		},
		Groups: id.Groups, Access: scopes,
	}).Serialize()
}

// leeway is how far clocks of replicas may differ.
const leeway = 30 * time.Second

func (s *signer) parse(raw string) (Identity, error) {
	tok, err := jwt.ParseSigned(raw, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		return Identity{}, err
	}
	var c claims
	if err := tok.Claims(s.key.Public(), &c); err != nil {
		return Identity{}, err
	}
	err = c.ValidateWithLeeway(jwt.Expected{Issuer: s.service, AnyAudience: jwt.Audience{s.service}, Time: s.now()}, leeway)
	if err != nil {
		return Identity{}, err
	}
	if c.Expiry == nil || c.Subject == "" {
		return Identity{}, errors.New("no expiry or no subject")
	}
	id := Identity{Name: c.Subject, Groups: c.Groups, scopes: c.Access, scoped: true}
	if c.Subject == anonymousSubject {
		id.Name = ""
	}
	return id, nil
}

// bearer identifies a bearer token: one of our own by its key id, an OIDC token
// by its issuer, else a robot's secret.
func (c *Controller) bearer(ctx context.Context, raw string) (Identity, error) {
	if raw == "" || len(raw) > maxToken {
		return Identity{}, fmt.Errorf("%w: the token is empty or longer than %d bytes", ErrCredentials, maxToken)
	}
	if strings.Count(raw, ".") != 2 {
		return c.robot(ctx, func(Robot) bool { return true }, raw)
	}
	kid, iss := peek(raw)
	if kid == c.signer.id && iss == c.opts.Service {
		id, err := c.signer.parse(raw)
		if err != nil {
			return Identity{}, fmt.Errorf("%w: own token: %w", ErrCredentials, err)
		}
		ok, err := c.alive(ctx, id.Name)
		if err == nil && !ok {
			err = fmt.Errorf("%w: %s is no longer known", ErrCredentials, id.Name)
		}
		return id, err
	}
	for _, i := range c.issuers {
		if i.Issuer.URL == iss {
			return i.identify(ctx, raw)
		}
	}
	return Identity{}, fmt.Errorf("%w: no token of an issuer that is configured", ErrCredentials)
}

// peek reads the key id and the issuer of a JWT that is not verified yet, only
// to choose who verifies it.
func peek(raw string) (kid, iss string) {
	parts := strings.Split(raw, ".")
	var head struct {
		KeyID string `json:"kid"`
	}
	var body struct {
		Issuer string `json:"iss"`
	}
	for i, v := range []any{&head, &body} {
		b, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil || json.Unmarshal(b, v) != nil {
			return "", ""
		}
	}
	return head.KeyID, body.Issuer
}

// TokenHandler is Docker's token endpoint (distribution, "Token Authentication
// Specification"; GET with Basic credentials, and POST in the form of OAuth 2,
// grant types password and refresh_token). It grants those of the wanted scopes
// that the rules allow. Without credentials the token is for nobody. Offline
// tokens are not given, and nothing for a token of our own: scopes stay as narrow
// and ends as near as they were.
func (c *Controller) TokenHandler(w http.ResponseWriter, r *http.Request) {
	id, scopes, err := c.tokenRequest(w, r)
	var limited *LimitedError
	switch {
	case errors.As(err, &limited):
		w.Header().Set("Retry-After", fmt.Sprint(int(limited.RetryAfter/time.Second)+1))
		writeTokenError(w, http.StatusTooManyRequests, err.Error())
		return
	case err != nil, id.scoped: // a token of our own buys no other: it would outlive what it was given for
		w.Header().Set("WWW-Authenticate", fmt.Sprintf("Basic realm=%q", c.opts.Service))
		writeTokenError(w, http.StatusUnauthorized, ErrCredentials.Error())
		return
	}
	raw, err := c.signer.token(id, c.grant(id, scopes), c.opts.TokenTTL)
	if err != nil {
		c.opts.Log.Error("token not signed", zap.Error(err))
		writeTokenError(w, http.StatusInternalServerError, "internal error")
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"token": raw, "access_token": raw, "expires_in": int(c.opts.TokenTTL / time.Second),
		"issued_at": c.opts.Now().UTC().Format(time.RFC3339),
	})
}

// tokenRequest reads who wants which scopes.
func (c *Controller) tokenRequest(w http.ResponseWriter, r *http.Request) (Identity, []scope, error) {
	switch r.Method {
	case http.MethodGet:
		id, err := c.Identify(r)
		return id, parseScopes(r.URL.Query()["scope"]), err
	case http.MethodPost:
	default:
		return Identity{}, nil, fmt.Errorf("%w: method %s", ErrCredentials, r.Method)
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxToken*2)
	if err := r.ParseForm(); err != nil {
		return Identity{}, nil, fmt.Errorf("%w: %w", ErrCredentials, err)
	}
	inner := r.Clone(r.Context())
	switch r.PostForm.Get("grant_type") {
	case "password":
		inner.SetBasicAuth(r.PostForm.Get("username"), r.PostForm.Get("password"))
	case "refresh_token":
		inner.Header.Set("Authorization", "Bearer "+r.PostForm.Get("refresh_token"))
	default:
		return Identity{}, nil, fmt.Errorf("%w: grant_type %q", ErrCredentials, r.PostForm.Get("grant_type"))
	}
	id, err := c.Identify(inner)
	return id, parseScopes(r.PostForm["scope"]), err
}

// grant keeps what the identity may do. Names without an upstream in front are
// whichever upstream's the client will name with ns, which the token endpoint is
// not told: pull stays, and the rules decide on the request itself.
func (c *Controller) grant(id Identity, wanted []scope) []scope {
	out := []scope{}
	for _, s := range wanted {
		name, local, err := c.opts.Canonical(s.Name)
		granted := scope{Type: s.Type, Name: s.Name, Actions: []Action{}}
		for _, a := range s.Actions {
			ok := err == nil && c.allowed(id, name, a) || a == Pull && !local
			if ok && !slices.Contains(granted.Actions, a) {
				granted.Actions = append(granted.Actions, a)
			}
		}
		out = append(out, granted)
	}
	return out
}

func writeTokenError(w http.ResponseWriter, status int, message string) {
	writeJSON(w, status, map[string]any{"errors": []any{map[string]string{"code": "UNAUTHORIZED", "message": message}}})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client is gone: nothing to tell it
}
