package auth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// provider is an OIDC issuer.
type provider struct {
	t     *testing.T
	srv   *httptest.Server
	key   *ecdsa.PrivateKey
	keys  atomic.Value // []byte, the JWKS
	asked atomic.Int64
	down  atomic.Bool
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	p := &provider{t: t}
	p.srv = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		p.asked.Add(1)
		if p.down.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		b, _ := p.keys.Load().([]byte)
		_, _ = w.Write(b)
	}))
	t.Cleanup(p.srv.Close)
	p.rotate("k1")
	return p
}

func (p *provider) rotate(id string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		p.t.Fatal(err)
	}
	p.key = key
	b, err := json.Marshal(map[string]any{"keys": []any{
		map[string]string{"kty": "XYZ", "kid": "unknown type"},
		map[string]string{"kty": "oct", "kid": id, "k": base64.RawURLEncoding.EncodeToString([]byte("shared"))},
		jose.JSONWebKey{Key: key.Public(), KeyID: id, Algorithm: "ES256", Use: "sig"},
	}})
	if err != nil {
		p.t.Fatal(err)
	}
	p.keys.Store(b)
}

func (p *provider) sign(alg jose.SignatureAlgorithm, key any, kid string, claims map[string]any) string {
	p.t.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: kid}}, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	raw, err := jwt.Signed(s).Claims(claims).Serialize()
	if err != nil {
		p.t.Fatal(err)
	}
	return raw
}

func (b *bench) claims(change map[string]any) map[string]any {
	c := map[string]any{
		"iss": "https://token.example", "aud": "sluice", "sub": "repo:acme/app:ref:refs/heads/main",
		"iat": b.now.Unix(), "exp": b.now.Add(time.Minute).Unix(), "repository_owner_id": "42", "groups": []string{"dev"},
	}
	for k, v := range change {
		if v == nil {
			delete(c, k)
		} else {
			c[k] = v
		}
	}
	return c
}

func withProvider(t *testing.T) (*bench, *provider) {
	p := newProvider(t)
	b := newBench(t, func(o *Options) {
		o.Issuers = []Issuer{{
			Name: "github", URL: "https://token.example", Audience: "sluice", JWKS: p.srv.URL, Groups: "groups",
			Require: map[string]string{"repository_owner_id": "42"},
		}}
	})
	return b, p
}

func TestOIDC(t *testing.T) {
	b, p := withProvider(t)
	good := p.sign(jose.ES256, p.key, "k1", b.claims(nil))
	for name, r := range map[string]*http.Request{"bearer": request(t, "Bearer "+good), "basic": basic(t, "oauth2accesstoken", good)} {
		id, err := b.Identify(r)
		if err != nil || id.Name != "oidc:github:repo:acme/app:ref:refs/heads/main" || len(id.Groups) != 1 || id.Groups[0] != "github:dev" {
			t.Fatalf("%s: identity %+v, %v", name, id, err)
		}
		if err := b.Authorize(r, id, Push, "local/app", "local/app"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := p.asked.Load(); n != 1 {
		t.Errorf("%d requests for keys, want 1", n)
	}
}

// TestThreatToken are the ways to get in with a token that is not meant for it.
func TestThreatToken(t *testing.T) {
	b, p := withProvider(t)
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(p.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	enc := base64.RawURLEncoding.EncodeToString
	payload, err := json.Marshal(b.claims(nil))
	if err != nil {
		t.Fatal(err)
	}
	own, _ := b.token(basic(t, "ci", "ci-secret"), "repository:local/team/app:push")
	foreign := newBench(t, nil) // another registry with a key of its own
	theirs, _ := foreign.token(basic(t, "ci", "ci-secret"), "repository:local/team/app:push")
	for name, raw := range map[string]string{
		"another audience":           p.sign(jose.ES256, p.key, "k1", b.claims(map[string]any{"aud": "harbor"})),
		"no audience":                p.sign(jose.ES256, p.key, "k1", b.claims(map[string]any{"aud": nil})),
		"another issuer":             p.sign(jose.ES256, p.key, "k1", b.claims(map[string]any{"iss": "https://token.example.evil"})),
		"expired":                    p.sign(jose.ES256, p.key, "k1", b.claims(map[string]any{"exp": b.now.Add(-time.Second).Unix()})),
		"no expiry":                  p.sign(jose.ES256, p.key, "k1", b.claims(map[string]any{"exp": nil})),
		"not yet valid":              p.sign(jose.ES256, p.key, "k1", b.claims(map[string]any{"nbf": b.now.Add(time.Hour).Unix()})),
		"no subject":                 p.sign(jose.ES256, p.key, "k1", b.claims(map[string]any{"sub": nil})),
		"claim of a look-alike":      p.sign(jose.ES256, p.key, "k1", b.claims(map[string]any{"repository_owner_id": "43"})),
		"required claim is missing":  p.sign(jose.ES256, p.key, "k1", b.claims(map[string]any{"repository_owner_id": nil})),
		"another key under its name": p.sign(jose.ES256, other, "k1", b.claims(nil)),
		"unknown key":                p.sign(jose.ES256, other, "k9", b.claims(nil)),
		"the public key as a secret": p.sign(jose.HS256, public, "k1", b.claims(nil)),
		"the symmetric key in JWKS":  p.sign(jose.HS256, []byte("shared0123456789shared0123456789"), "k1", b.claims(nil)),
		"alg none":                   enc([]byte(`{"alg":"none","kid":"k1"}`)) + "." + enc(payload) + ".",
		"alg None":                   enc([]byte(`{"alg":"None"}`)) + "." + enc(payload) + ".AA",
		"own token cut":              own[:len(own)-4],
		"own token of another":       theirs,
		"own key id, other issuer":   p.sign(jose.ES256, p.key, b.signer.id, b.claims(nil)),
		"own issuer, provider's key": p.sign(jose.ES256, p.key, b.signer.id, b.claims(map[string]any{"iss": "sluice", "access": []any{}})),
		"not a token":                "a.b.c",
	} {
		t.Run(name, func(t *testing.T) {
			if id, err := b.Identify(request(t, "Bearer "+raw)); err == nil {
				t.Errorf("accepted as %s", id)
			}
		})
	}
	if _, err := b.Identify(request(t, "Bearer "+own)); err != nil {
		t.Errorf("the untouched one: %v", err)
	}
	b.now = b.now.Add(b.opts.TokenTTL + leeway + time.Second)
	if _, err := b.Identify(request(t, "Bearer "+own)); err == nil {
		t.Error("own token accepted after its end")
	}
}

func TestKeysAreFetchedAgain(t *testing.T) {
	b, p := withProvider(t)
	try := func(kid string) error {
		_, err := b.Identify(request(t, "Bearer "+p.sign(jose.ES256, p.key, kid, b.claims(nil))))
		return err
	}
	if err := try("k1"); err != nil {
		t.Fatal(err)
	}
	for range 20 { // key ids that do not exist
		if err := try("made up"); err == nil {
			t.Fatal("accepted")
		}
	}
	if n := p.asked.Load(); n != 1 {
		t.Errorf("%d requests for keys within %s", n, keysRetry)
	}
	p.rotate("k2")
	b.now = b.now.Add(keysRetry)
	if err := try("k2"); err != nil {
		t.Errorf("after the rotation: %v", err)
	}
	p.down.Store(true)
	b.now = b.now.Add(keysFresh)
	if err := try("k2"); err != nil {
		t.Errorf("issuer down for a moment: %v", err)
	}
	b.now = b.now.Add(keysStale)
	if err := try("k2"); err == nil {
		t.Error("keys of yesterday still count")
	}
	p.down.Store(false)
	b.now = b.now.Add(keysRetry)
	p.rotate("k3") // k2 is withdrawn
	k3 := p.key
	if err := try("k3"); err != nil {
		t.Fatal(err)
	}
	p.key = k3
	if err := try("k2"); err == nil {
		t.Error("a withdrawn key id still counts")
	}
}

// FuzzBearer: no bytes are an identity but those that were signed.
func FuzzBearer(f *testing.F) {
	f.Add("a.b.c")
	f.Add("eyJhbGciOiJub25lIn0.eyJpc3MiOiJzbHVpY2UifQ.")
	f.Fuzz(func(t *testing.T, raw string) {
		b := newBench(t, func(o *Options) { o.Htpasswd = "" })
		if id, err := b.bearer(t.Context(), raw); err == nil && raw != "ci-secret" && raw != "soon-secret" {
			t.Errorf("%q is %s", raw, id)
		}
	})
}
