package upstream

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	godigest "github.com/opencontainers/go-digest"
)

// fake is a registry of go-containerregistry with counters, optional token
// authentication and an answer of one's own.
type fake struct {
	*httptest.Server
	mu       sync.Mutex
	requests map[string]int
	user     string // asks for a token, which this user gets with the password "secret"
	answer   http.HandlerFunc
}

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{requests: make(map[string]int)}
	reg := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.requests[r.Method+" "+r.URL.Path]++
		user, answer := f.user, f.answer
		f.mu.Unlock()
		switch {
		case r.URL.Path == "/token":
			f.token(w, r)
		case user != "" && r.Header.Get("Authorization") != "Bearer good":
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="fake",scope="repository:app:pull"`, f.URL))
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"who are you"}]}`, http.StatusUnauthorized)
		case answer != nil && r.URL.Path != "/v2/":
			answer(w, r)
		default:
			reg.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(f.Close)
	return f
}

func (f *fake) token(w http.ResponseWriter, r *http.Request) {
	user, pass, _ := r.BasicAuth()
	if user != f.user || pass != "secret" {
		http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"wrong password"}]}`, http.StatusUnauthorized)
		return
	}
	_, _ = io.WriteString(w, `{"token":"good"}`)
}

func (f *fake) count(key string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests[key]
}

func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// push puts a random image there and returns its digest and a layer's.
func (f *fake) push(t *testing.T, ref string) (manifest, layer godigest.Digest) {
	t.Helper()
	img, err := random.Image(1<<10, 1)
	if err != nil {
		t.Fatal(err)
	}
	r, err := name.ParseReference(strings.TrimPrefix(f.URL, "http://") + "/" + ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(r, img); err != nil {
		t.Fatal(err)
	}
	m, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	ls, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	l, err := ls[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	return godigest.Digest(m.String()), godigest.Digest(l.String())
}

type keychain func(authn.Resource) authn.Authenticator

func (k keychain) Resolve(r authn.Resource) (authn.Authenticator, error) { return k(r), nil }

func anonymous(authn.Resource) authn.Authenticator { return authn.Anonymous }

func (f *fake) client(t *testing.T, cfg Config, keys keychain) *Upstream {
	t.Helper()
	cfg.URL = f.URL
	if cfg.Name == "" {
		cfg.Name = "up"
	}
	c, err := New(Options{Upstreams: []Config{cfg}, Keychain: keys})
	if err != nil {
		t.Fatal(err)
	}
	u, err := c.Upstream(cfg.Name)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestPull(t *testing.T) {
	f := newFake(t)
	manifest, layer := f.push(t, "app:1")
	pings := f.count("GET /v2/")
	u := f.client(t, Config{}, anonymous)
	desc, err := u.Resolve(t.Context(), "app", "1", "")
	if err != nil || desc.Digest != manifest {
		t.Fatalf("Resolve = %v, %v, want %s", desc, err, manifest)
	}
	for _, ref := range []string{"1", manifest.String()} {
		m, err := u.Manifest(t.Context(), "app", ref)
		if err != nil || m.Digest != manifest || godigest.FromBytes(m.Bytes) != manifest || m.MediaType == "" {
			t.Errorf("Manifest(%s) = %s %q, %v", ref, m.Digest, m.MediaType, err)
		}
	}
	body, total, err := u.Blob(t.Context(), "app", layer, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := io.ReadAll(body)
	if err != nil || godigest.FromBytes(whole) != layer || total != int64(len(whole)) {
		t.Errorf("Blob: %d bytes of %d, %v", len(whole), total, err)
	}
	body, total, err = u.Blob(t.Context(), "app", layer, 100, int64(len(whole)))
	if err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(body)
	if err != nil || string(rest) != string(whole[100:]) || total != int64(len(whole)) {
		t.Errorf("Blob from 100: %d bytes of %d, %v", len(rest), total, err)
	}
	tags, more, err := u.Tags(t.Context(), "app", 10, "")
	if err != nil || len(tags) != 1 || tags[0] != "1" || more {
		t.Errorf("Tags = %q, %v, %v", tags, more, err)
	}
	if n := f.count("GET /v2/") - pings; n != 1 {
		t.Errorf("%d pings, want 1", n)
	}
}

func TestCredentials(t *testing.T) {
	good := authn.FromConfig(authn.AuthConfig{Username: "ann", Password: "secret"})
	var asked []string
	for _, tt := range []struct {
		name string
		cfg  Config
		keys keychain
		want int // status, 0 = success
	}{
		{name: "configured", cfg: Config{Username: "ann", Password: "secret"}, keys: anonymous},
		{name: "keychain", keys: func(authn.Resource) authn.Authenticator { return good }},
		{name: "keychain, docker.io", cfg: Config{Name: "docker.io"}, keys: func(r authn.Resource) authn.Authenticator {
			asked = append(asked, r.RegistryStr())
			return good
		}},
		{name: "wrong password", cfg: Config{Username: "ann", Password: "guess"}, keys: anonymous, want: http.StatusUnauthorized},
		{name: "none", keys: anonymous, want: http.StatusUnauthorized},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake(t)
			f.push(t, "app:1")
			f.set(func() { f.user = "ann" })
			u := f.client(t, tt.cfg, tt.keys)
			for range 10 {
				_, err := u.Resolve(t.Context(), "app", "1", "")
				var status *StatusError
				if tt.want == 0 && err != nil || tt.want != 0 && (!errors.As(err, &status) || status.Status != tt.want) {
					t.Fatalf("Resolve: %v, want status %d", err, tt.want)
				}
				if err != nil && strings.Contains(err.Error(), "guess") {
					t.Errorf("the error shows the password: %v", err)
				}
			}
			if n := f.count("GET /token"); tt.want == 0 && n != 1 {
				t.Errorf("%d tokens fetched for 10 requests, want 1", n)
			}
		})
	}
	if len(asked) == 0 || asked[0] != "index.docker.io" {
		t.Errorf("the keychain was asked for %q, want index.docker.io", asked)
	}
}

// TestCrowdFetchesOneToken is the herd of a cold start.
func TestCrowdFetchesOneToken(t *testing.T) {
	f := newFake(t)
	f.push(t, "app:1")
	f.set(func() { f.user = "ann" })
	u := f.client(t, Config{Username: "ann", Password: "secret"}, anonymous)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := u.Resolve(t.Context(), "app", "1", ""); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := f.count("GET /token"); n != 1 {
		t.Errorf("%d tokens fetched, want 1", n)
	}
}

func TestStatusesStayThemselves(t *testing.T) {
	for _, status := range []int{400, 401, 403, 404, 429, 500, 502, 503} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			f := newFake(t)
			f.set(func() {
				f.answer = func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Retry-After", "7")
					http.Error(w, `{"errors":[{"code":"SOME_CODE","message":"some words"}]}`, status)
				}
			})
			u := f.client(t, Config{}, anonymous)
			_, err := u.Manifest(t.Context(), "app", "1")
			var got *StatusError
			if !errors.As(err, &got) || got.Status != status || got.Code != "SOME_CODE" || got.Message != "some words" || got.RetryAfter != 7*time.Second {
				t.Errorf("error = %#v", err)
			}
			if _, err := u.Resolve(t.Context(), "app", "1", ""); !errors.As(err, &got) || got.Status != status {
				t.Errorf("Resolve: %v", err)
			}
		})
	}
}

func TestLyingUpstream(t *testing.T) {
	d := godigest.FromString("what was asked for")
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
		call   func(context.Context, *Upstream) error
		want   string
	}{
		{"manifest of another digest", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }, manifestOf(d), "have the digest"},
		{"huge manifest", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, MaxManifest+1)) }, manifestOf(d), "larger than"},
		{"gzip coding", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = io.WriteString(w, "x")
		}, manifestOf(d), "content encoding"},
		{"range from elsewhere", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes 0-9/20")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = io.WriteString(w, "0123456789")
		}, func(ctx context.Context, u *Upstream) error {
			_, _, err := u.Blob(ctx, "app", d, 10, 20)
			return err
		}, "answered the range"},
		{"not a tag list", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }, func(ctx context.Context, u *Upstream) error {
			_, _, err := u.Tags(ctx, "app", 0, "")
			return err
		}, "not a tag list"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake(t)
			f.set(func() { f.answer = tt.answer })
			err := tt.call(t.Context(), f.client(t, Config{}, anonymous))
			var content *ContentError
			if !errors.As(err, &content) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v, want a *ContentError with %q", err, tt.want)
			}
		})
	}
}

func manifestOf(d godigest.Digest) func(context.Context, *Upstream) error {
	return func(ctx context.Context, u *Upstream) error {
		_, err := u.Manifest(ctx, "app", d.String())
		return err
	}
}

// TestRangeIgnored is distribution's own pull-through cache: it answers a range
// request for an uncached blob with the whole blob.
func TestRangeIgnored(t *testing.T) {
	f := newFake(t)
	f.set(func() {
		f.answer = func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "0123456789") }
	})
	body, total, err := f.client(t, Config{}, anonymous).Blob(t.Context(), "app", godigest.FromString("x"), 4, 10)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(body); err != nil || string(b) != "456789" || total != 10 {
		t.Errorf("body %q of %d, %v", b, total, err)
	}
}

// TestShortParts: a registry may send less than the range that was asked for; the
// blob's size is what it says, not where the part ends.
func TestShortParts(t *testing.T) {
	for said, want := range map[string]int64{"bytes 4-6/10": 10, "bytes 4-6/*": 7, "bytes 4-6/-3": 7, "bytes 4-6": 7} {
		f := newFake(t)
		f.set(func() {
			f.answer = func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Range", said)
				w.WriteHeader(http.StatusPartialContent)
				_, _ = io.WriteString(w, "456")
			}
		})
		body, total, err := f.client(t, Config{}, anonymous).Blob(t.Context(), "app", godigest.FromString("x"), 4, 10)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(body); err != nil || string(b) != "456" || total != want {
			t.Errorf("%s: body %q of %d, %v, want a total of %d", said, b, total, err, want)
		}
	}
}

// TestCredentialsStayHome: a redirect to another host (a CDN) gets no token.
func TestCredentialsStayHome(t *testing.T) {
	var leaked string
	cdn := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		leaked = r.Header.Get("Authorization")
		_, _ = io.WriteString(w, "bytes")
	}))
	defer cdn.Close()
	f := newFake(t)
	f.set(func() {
		f.user = "ann"
		f.answer = func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, cdn.URL, http.StatusTemporaryRedirect)
		}
	})
	body, _, err := f.client(t, Config{Username: "ann", Password: "secret"}, anonymous).Blob(t.Context(), "app", godigest.FromString("bytes"), 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(body); err != nil || string(b) != "bytes" {
		t.Errorf("body %q, %v", b, err)
	}
	if leaked != "" {
		t.Errorf("the other host got Authorization %q", leaked)
	}
}

// TestIdentityTokenStaysHome: an OAuth token request carries the credentials in
// its body, which a 307 or 308 would send on.
func TestIdentityTokenStaysHome(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		var leaked, got string
		other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			leaked += string(b) + r.Header.Get("Authorization")
			_, _ = io.WriteString(w, `{"access_token":"t"}`)
		}))
		home := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path == "/token" && r.Method == http.MethodPost:
				b, _ := io.ReadAll(r.Body)
				got = string(b)
				http.Redirect(w, r, "http://localhost:"+port(other.URL)+"/token", status) // a name: the registry library refuses the address
			default:
				w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+r.Host+`/token",service="x"`)
				w.WriteHeader(http.StatusUnauthorized)
			}
		}))
		c, err := New(Options{
			Upstreams: []Config{{Name: "up", URL: home.URL}},
			Keychain: keychain(func(authn.Resource) authn.Authenticator {
				return authn.FromConfig(authn.AuthConfig{IdentityToken: "secret"})
			}),
		})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.ups["up"].Resolve(t.Context(), "app", "1", "") // whether it fails is not the question
		home.Close()
		other.Close()
		if !strings.Contains(got, "refresh_token=secret") {
			t.Fatalf("%d: the token server itself got %q", status, got)
		}
		if strings.Contains(leaked, "secret") {
			t.Errorf("%d: the other host got %q", status, leaked)
		}
	}
}

func TestUnreachable(t *testing.T) {
	f := newFake(t)
	u := f.client(t, Config{}, anonymous)
	f.Close()
	_, err := u.Resolve(t.Context(), "app", "1", "")
	var un *UnreachableError
	if !errors.As(err, &un) {
		t.Errorf("error = %v, want an *UnreachableError", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := u.Resolve(ctx, "app", "1", ""); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	secret := base64.StdEncoding.EncodeToString([]byte("pw"))
	for _, bad := range []string{"", "registry.example", "ftp://registry.example", "https://registry.example/path", "https://user:" + secret + "@registry.example"} {
		_, err := New(Options{Upstreams: []Config{{Name: "up", URL: bad}}})
		if err == nil {
			t.Errorf("%q: no error", bad)
		} else if strings.Contains(err.Error(), secret) {
			t.Errorf("the error shows the password: %v", err)
		}
	}
}
