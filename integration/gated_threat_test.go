package integration

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	godigest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestThreatMountOutOfADeniedRepository: a mount gives nothing that the caller
// may not read where it is, and nothing of an image that does not serve.
func TestThreatMountOutOfADeniedRepository(t *testing.T) {
	t.Parallel()
	s := gated(t, newUpstream(t), "")
	secret, bad, fine := image(t, "amd64", layerText(t, "secret")), alpineImage(t, vulnerable), image(t, "amd64", layerText(t, "fine"))
	s.wantPush(t, "op", "local/private/app", "1", secret)
	s.wantPush(t, "alice", "local/quarantine/app", "1", bad)
	s.wantPush(t, "alice", "local/team/app", "1", fine)
	s.pushBlobs(t, "alice", "local/team/app", image(t, "amd64", layerText(t, "no manifest names it")))
	first := func(img v1.Image) string { return must(must(img.Layers())(t)[0].Digest())(t).String() }
	for _, tt := range []struct {
		name, who, from, digest, to string
		status                      int
	}{
		{"of a repository that the caller may not read", "alice", "local/private/app", first(secret), "local/team/app", http.StatusAccepted},
		{"of an image in quarantine", "bob", "local/quarantine/app", first(bad), "local/other/app", http.StatusAccepted},
		{"of an image in quarantine by its pusher", "alice", "local/quarantine/app", first(bad), "local/team/app", http.StatusAccepted},
		{"of no image", "bob", "local/team/app", first(image(t, "amd64", layerText(t, "no manifest names it"))), "local/other/app", http.StatusAccepted},
		{"of another digest", "bob", "local/team/app", godigest.FromString("x").String(), "local/other/app", http.StatusAccepted},
		{"of an upstream", "bob", "up/public/app", first(fine), "local/other/app", http.StatusAccepted},
		{"by a path that goes up", "bob", "local/other/../team/app", first(fine), "local/other/app", http.StatusAccepted},
		{"into a repository that the caller may not push to", "bob", "local/team/app", first(fine), "local/team/copy", http.StatusForbidden},
		{"of an image that serves", "bob", "local/team/app", first(fine), "local/other/app", http.StatusCreated},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q := url.Values{"mount": {tt.digest}, "from": {tt.from}}
			a := s.send(t, http.MethodPost, "/v2/"+tt.to+"/blobs/uploads/?"+q.Encode(), nil, as(tt.who))
			if a.status != tt.status {
				t.Errorf("%d %s, want %d", a.status, a.body, tt.status)
			}
			h := s.ask(t, http.MethodHead, "/v2/"+tt.to+"/blobs/"+tt.digest, as(tt.who))
			if mounted := tt.status == http.StatusCreated; mounted != (h.status == http.StatusOK) {
				t.Errorf("afterwards HEAD in %s is %d", tt.to, h.status)
			}
		})
	}
}

// TestThreatManifestOfADeniedLayer: a layer that was refused is refused in every
// other manifest and repository too, and a block on it holds for pushes.
func TestThreatManifestOfADeniedLayer(t *testing.T) {
	t.Parallel()
	s := gated(t, newUpstream(t), "")
	bad := layer(t, alpine(vulnerable))
	s.pushBlobs(t, "alice", "local/team/app", image(t, "amd64", bad)) // left by a push that was refused
	again := image(t, "amd64", bad, layerText(t, "another layer on top"))
	if a := s.pushImage(t, "alice", "local/team/app", "1", again); a.status != http.StatusForbidden {
		t.Errorf("a manifest with the layer: %d %s", a.status, a.body)
	}
	// Its blobs are in one repository only: elsewhere they are unknown.
	if a := s.putManifest(t, "bob", "local/other/app", "1", again); a.status != http.StatusNotFound || !strings.Contains(string(a.body), "MANIFEST_BLOB_UNKNOWN") {
		t.Errorf("a manifest of another repository's blobs: %d %s", a.status, a.body)
	}
	// Nor does another media type hide what it holds, in any part of an artifact.
	for _, disguise := range []struct{ config, layer string }{
		{ocispec.MediaTypeEmptyJSON, "application/vnd.dev.cosign.simplesigning.v1+json"},
		{ocispec.MediaTypeImageConfig, "application/vnd.dev.sigstore.bundle.v0.3+json"},
		{ocispec.MediaTypeEmptyJSON, "application/octet-stream"},
		{"application/vnd.cncf.helm.config.v1+json", "application/vnd.cncf.helm.chart.content.v1.tar+gzip"},
		{"application/vnd.cncf.helm.config.v1+json", ""}, // the layer is the config
	} {
		a := s.pushDisguised(t, bad, disguise.config, disguise.layer)
		if a.status != http.StatusForbidden {
			t.Errorf("%v: %d %s", disguise, a.status, a.body)
		}
	}
	s.pulls(t, "local/team/app", "disguised", map[string]int{"alice": 404})
	fine := layerText(t, "to be blocked")
	s.wantPush(t, "alice", "local/team/fine", "1", image(t, "amd64", fine))
	s.block(t, "layer", must(fine.DiffID())(t).String())
	if a := s.pushImage(t, "alice", "local/team/fine", "2", image(t, "amd64", layerText(t, "below"), fine)); a.status != http.StatusForbidden {
		t.Errorf("push of a blocked layer: %d %s", a.status, a.body)
	}
	// What is blocked its pusher does not get either, but may replace.
	s.pulls(t, "local/team/fine", "1", map[string]int{"alice": 403, "node": 403, "op": 200})
	if a := s.get(t, "/v2/local/team/fine/blobs/"+must(fine.Digest())(t).String(), as("alice")); a.status != http.StatusForbidden {
		t.Errorf("blocked blob by its pusher: %d", a.status)
	}
	if a := s.ask(t, http.MethodHead, "/v2/local/team/fine/manifests/1", as("alice")); a.status != http.StatusOK {
		t.Errorf("HEAD of a blocked image by its pusher: %d, want 200: containerd asks before it pushes the next", a.status)
	}
	s.wantPush(t, "alice", "local/team/fine", "1", image(t, "amd64", layerText(t, "fixed")))
	s.pulls(t, "local/team/fine", "1", map[string]int{"node": 200})
}

// pushDisguised pushes a layer that is there already as what it is not: as a blob
// of the type layer, or with "" as the config.
func (s *server) pushDisguised(t *testing.T, l v1.Layer, config, layer string) answer {
	t.Helper()
	disguised := ocispec.Descriptor{MediaType: layer, Digest: godigest.Digest(must(l.Digest())(t).String()), Size: must(l.Size())(t)}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Layers: []ocispec.Descriptor{disguised}}
	m.Config = ocispec.Descriptor{MediaType: config, Digest: godigest.FromString("{}"), Size: 2}
	if layer == "" {
		m.Config, m.Layers = disguised, []ocispec.Descriptor{}
		m.Config.MediaType = config
	}
	if a := s.send(t, http.MethodPost, "/v2/local/team/app/blobs/uploads/?digest="+godigest.FromString("{}").String(), []byte("{}"), as("alice"), "Content-Type: application/octet-stream"); a.status != http.StatusCreated {
		t.Fatalf("%d %s", a.status, a.body)
	}
	return s.send(t, http.MethodPut, "/v2/local/team/app/manifests/disguised", must(json.Marshal(m))(t), as("alice"), "Content-Type: "+m.MediaType)
}

// TestThreatPushRacesABlock: however pushes and a block fall together, nothing
// that is blocked is served after the block was acknowledged.
func TestThreatPushRacesABlock(t *testing.T) {
	t.Parallel()
	s := gated(t, newUpstream(t), "")
	for round := range 5 {
		img := image(t, "amd64", layerText(t, fmt.Sprint("round ", round)))
		name := fmt.Sprint("local/team/race", round)
		s.pushBlobs(t, "alice", name, img)
		digest := must(img.Digest())(t).String()
		raw, mediaType := must(img.RawManifest())(t), string(must(img.MediaType())(t))
		var pushers sync.WaitGroup
		ended := make(chan struct{}, 8)
		for n := range 8 {
			pushers.Go(func() {
				_, _ = try(t.Context(), http.MethodPut, fmt.Sprintf("http://%s/v2/%s/manifests/t%d", s.registry, name, n), raw, as("alice"), "Content-Type: "+mediaType)
				ended <- struct{}{}
			})
		}
		for range round { // the block comes before the first push has ended, after it, after the second …
			<-ended
		}
		s.block(t, "digest", digest)
		for n := range 8 {
			for _, reference := range []string{digest, fmt.Sprint("t", n)} {
				if a := s.get(t, "/v2/"+name+"/manifests/"+reference, as("node")); a.status == http.StatusOK {
					t.Errorf("%s:%s was served after the block", name, reference)
				}
			}
		}
		pushers.Wait()
		if a := s.putManifest(t, "alice", name, "late", img); a.status != http.StatusForbidden {
			t.Errorf("a push after the block: %d", a.status)
		}
		for _, who := range []string{"node", "alice"} { // 404 where no push came before the block
			if a := s.get(t, "/v2/"+name+"/manifests/"+digest, as(who)); a.status != http.StatusForbidden && a.status != http.StatusNotFound {
				t.Errorf("afterwards by %s: %d", who, a.status)
			}
		}
	}
}

// TestThreatImmutableTagUnder50Pushers: of 50 who push different images under
// one immutable tag at once, one wins, and it stays.
func TestThreatImmutableTagUnder50Pushers(t *testing.T) {
	t.Parallel()
	s := gated(t, newUpstream(t), "")
	const pushers = 50
	var (
		all    sync.WaitGroup
		mu     sync.Mutex
		won    []string
		begin  = make(chan struct{})
		images [pushers]v1.Image
	)
	common := layerText(t, "in all of them")
	for n := range pushers {
		images[n] = image(t, "amd64", common, layerText(t, fmt.Sprint("pusher ", n)))
		s.pushBlobs(t, "alice", "local/team/app", images[n])
	}
	for _, img := range images {
		raw, mediaType, digest := must(img.RawManifest())(t), string(must(img.MediaType())(t)), must(img.Digest())(t).String()
		all.Go(func() {
			<-begin
			a, err := try(t.Context(), http.MethodPut, "http://"+s.registry+"/v2/local/team/app/manifests/v1.0", raw, as("alice"), "Content-Type: "+mediaType)
			if err == nil && a.status == http.StatusCreated {
				mu.Lock()
				defer mu.Unlock()
				won = append(won, digest)
			} else if err != nil || a.status != http.StatusForbidden {
				t.Errorf("%d %s (%v)", a.status, a.body, err)
			}
		})
	}
	close(begin)
	all.Wait()
	if len(won) != 1 {
		t.Fatalf("%d pushes won: %v", len(won), won)
	}
	if a := s.get(t, "/v2/local/team/app/manifests/v1.0", as("node")); godigest.FromBytes(a.body).String() != won[0] {
		t.Errorf("the tag names %s, the winner pushed %s", godigest.FromBytes(a.body), won[0])
	}
}

// token asks the token endpoint, by whom and for what.
func (s *server) token(t *testing.T, who string, scopes ...string) string {
	t.Helper()
	a := s.get(t, "/auth/token?"+url.Values{"service": {"sluice"}, "scope": scopes}.Encode(), as(who))
	var got struct {
		Token string `json:"token"`
	}
	if err := json.Unmarshal(a.body, &got); err != nil || a.status != http.StatusOK || got.Token == "" {
		t.Fatalf("token of %q: %d %s", who, a.status, a.body)
	}
	return got.Token
}

// TestThreatForgedTokens: only a token of this server, for this server, that has
// not expired, is one.
func TestThreatForgedTokens(t *testing.T) {
	t.Parallel()
	s := gated(t, newUpstream(t), "")
	s.wantPush(t, "alice", "local/team/app", "1", image(t, "amd64", layerText(t, "x")))
	real := s.token(t, "op", "repository:local/team/app:pull,push")
	parts := strings.Split(real, ".")
	var claims map[string]any
	body := must(base64.RawURLEncoding.DecodeString(parts[1]))(t)
	if err := json.Unmarshal(body, &claims); err != nil {
		t.Fatal(err)
	}
	var head struct {
		KeyID string `json:"kid"`
	}
	if err := json.Unmarshal(must(base64.RawURLEncoding.DecodeString(parts[0]))(t), &head); err != nil {
		t.Fatal(err)
	}
	encode := func(v any) string { return base64.RawURLEncoding.EncodeToString(must(json.Marshal(v))(t)) }
	with := func(key string, v any) map[string]any {
		out := map[string]any{}
		for k, old := range claims {
			out[k] = old
		}
		out[key] = v
		return out
	}
	// What an attacker knows: the key's id, and bytes that a naive verifier could
	// take for a shared secret.
	shared := func(secret string) string {
		signer := must(jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: bytes.Repeat([]byte(secret), 32)[:32]}, (&jose.SignerOptions{}).WithHeader("kid", head.KeyID)))(t)
		return must(jwt.Signed(signer).Claims(claims).Serialize())(t)
	}
	for name, raw := range map[string]string{
		"none":                 encode(map[string]string{"alg": "none", "kid": head.KeyID}) + "." + parts[1] + ".",
		"None":                 encode(map[string]string{"alg": "None", "kid": head.KeyID}) + "." + parts[1] + "." + parts[2],
		"algorithm confusion":  shared(head.KeyID),
		"another audience":     parts[0] + "." + encode(with("aud", "other")) + "." + parts[2],
		"expired":              parts[0] + "." + encode(with("exp", time.Now().Add(-time.Hour).Unix())) + "." + parts[2],
		"another subject":      parts[0] + "." + encode(with("sub", "user:alice")) + "." + parts[2],
		"wider scopes":         parts[0] + "." + encode(with("access", []any{map[string]any{"type": "repository", "name": "local/private/app", "actions": []string{"pull"}}})) + "." + parts[2],
		"no signature":         parts[0] + "." + parts[1] + ".",
		"another's issuer":     parts[0] + "." + encode(with("iss", "https://accounts.example")) + "." + parts[2],
		"cut off":              real[:len(real)-4],
		"a password as bearer": passwordOf("op"),
	} {
		if a := s.get(t, "/v2/local/team/app/manifests/1", "Authorization: Bearer "+raw); a.status != http.StatusUnauthorized || a.header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: %d %s, want 401", name, a.status, a.body)
		}
	}
	if a := s.get(t, "/v2/local/team/app/manifests/1", "Authorization: Bearer "+real); a.status != http.StatusOK {
		t.Errorf("the real one: %d %s", a.status, a.body)
	}
	other := gated(t, newUpstream(t), "")
	if a := other.get(t, "/v2/local/team/app/manifests/1", "Authorization: Bearer "+real); a.status != http.StatusUnauthorized {
		t.Errorf("a token of another server: %d, want 401", a.status)
	}
}

// TestThreatScopeEscalation: a token gives what was asked for and the rules
// allow, whatever else its holder may do or asks for.
func TestThreatScopeEscalation(t *testing.T) {
	t.Parallel()
	s := gated(t, newUpstream(t), "")
	s.wantPush(t, "op", "local/private/app", "1", image(t, "amd64", layerText(t, "x")))
	s.wantPush(t, "alice", "local/team/app", "1", image(t, "amd64", layerText(t, "x")))
	for _, tt := range []struct {
		name, who, scope string
		method, path     string
		want             int
	}{
		{"pull does not push", "alice", "repository:local/team/app:pull", http.MethodPost, "local/team/app/blobs/uploads/", 401},
		{"push does not delete", "alice", "repository:local/team/app:pull,push", http.MethodDelete, "local/team/app/manifests/1", 401},
		{"one repository is not another", "alice", "repository:local/team/app:pull,push", http.MethodPost, "local/team/app2/blobs/uploads/", 401},
		{"no prefixes", "alice", "repository:local/team:pull,push,delete", http.MethodGet, "local/team/app/manifests/1", 401},
		{"no patterns", "alice", "repository:local/**:*", http.MethodGet, "local/team/app/manifests/1", 401},
		{"asking for all gives what the rules allow", "node", "repository:local/team/app:*", http.MethodPost, "local/team/app/blobs/uploads/", 403},
		{"nor another's", "alice", "repository:local/private/app:*", http.MethodGet, "local/private/app/manifests/1", 403},
		{"nobody gets nothing", "", "repository:local/team/app:pull", http.MethodGet, "local/team/app/manifests/1", 401},
		{"other types are nothing", "op", "registry:catalog:*", http.MethodGet, "local/private/app/manifests/1", 401},
		{"and what is granted works", "alice", "repository:local/team/app:pull", http.MethodGet, "local/team/app/manifests/1", 200},
	} {
		raw := s.token(t, tt.who, tt.scope)
		if a := s.send(t, tt.method, "/v2/"+tt.path, nil, "Authorization: Bearer "+raw); a.status != tt.want {
			t.Errorf("%s: %d %s, want %d", tt.name, a.status, a.body, tt.want)
		}
	}
	// A mount needs the right at both ends in the token too.
	raw := s.token(t, "op", "repository:local/team/app:pull,push")
	blob := must(must(image(t, "amd64", layerText(t, "x")).Layers())(t)[0].Digest())(t).String()
	q := url.Values{"mount": {blob}, "from": {"local/private/app"}}
	if a := s.send(t, http.MethodPost, "/v2/local/team/app/blobs/uploads/?"+q.Encode(), nil, "Authorization: Bearer "+raw); a.status != http.StatusAccepted {
		t.Errorf("mount with a token for the target only: %d", a.status)
	}
	for _, body := range []string{
		url.Values{"grant_type": {"refresh_token"}, "refresh_token": {raw}, "scope": {"repository:local/private/app:pull"}}.Encode(),
		url.Values{"grant_type": {"client_credentials"}}.Encode(),
	} {
		if a := s.send(t, http.MethodPost, "/auth/token", []byte(body), "Content-Type: application/x-www-form-urlencoded"); a.status != http.StatusUnauthorized {
			t.Errorf("POST %s: %d %s", body, a.status, a.body)
		}
	}
}

// TestThreatUploadOfAnotherUser: a session is its owner's, in its repository.
func TestThreatUploadOfAnotherUser(t *testing.T) {
	t.Parallel()
	s := gated(t, newUpstream(t), "")
	a := s.send(t, http.MethodPost, "/v2/local/team/app/blobs/uploads/", nil, as("alice"))
	location := a.header.Get("Location")
	if a.status != http.StatusAccepted || location == "" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	elsewhere := strings.Replace(location, "/team/app/", "/team/other/", 1)
	digest := godigest.FromString("evil").String()
	for _, tt := range []struct {
		name, who, method, path string
		want                    int
	}{
		{"status", "op", http.MethodGet, location, 404},
		{"chunk", "op", http.MethodPatch, location, 404},
		{"end", "op", http.MethodPut, location + "?digest=" + digest, 404},
		{"cancel", "op", http.MethodDelete, location, 404},
		{"without the right", "bob", http.MethodPatch, location, 403},
		{"nobody", "", http.MethodPatch, location, 401},
		{"its owner in another repository", "alice", http.MethodPatch, elsewhere, 404},
	} {
		if a := s.send(t, tt.method, tt.path, []byte("evil"), as(tt.who)); a.status != tt.want {
			t.Errorf("%s: %d %s, want %d", tt.name, a.status, a.body, tt.want)
		}
	}
	if a := s.send(t, http.MethodPut, location+"?digest="+godigest.FromString("good").String(), []byte("good"), as("alice")); a.status != http.StatusCreated {
		t.Errorf("its owner, after all that: %d %s", a.status, a.body)
	}
}

// TestThreatPathConfusion: a name means one thing, to the rules and to the store.
func TestThreatPathConfusion(t *testing.T) {
	t.Parallel()
	s := gated(t, newUpstream(t), "")
	s.wantPush(t, "op", "local/private/app", "1", image(t, "amd64", layerText(t, "secret")))
	for _, name := range []string{
		"local%2fprivate%2fapp", "local/private%2fapp", "local/team/../private/app", "local/team/%2e%2e/private/app", "local/./private/app",
		"local//private/app", "local/private/app/", "/local/private/app", "LOCAL/private/app", "local/Private/app", "local/privat\u0435/app", "local/private\u2215app",
		"local/private/app%00", "local/private/app%20", "local/private/app;x=1", "local\\private\\app", "local/team/app?x=/../private/app",
	} {
		for _, rest := range []string{"/manifests/1", "/tags/list", "/blobs/" + godigest.FromString("x").String()} {
			a, err := raw(t.Context(), s, http.MethodGet, "/v2/"+name+rest, as("alice"))
			if err == nil && a.status == http.StatusOK {
				t.Errorf("%q: 200 %s", name+rest, a.body)
			}
		}
		if a, err := raw(t.Context(), s, http.MethodPost, "/v2/"+name+"/blobs/uploads/", as("alice")); err == nil && a.status/100 == 2 {
			t.Errorf("an upload to %q: %d", name, a.status)
		}
	}
	for _, tag := range []string{"..", "%2e%2e", "1/../2", "\u0661", "-x", strings.Repeat("x", 129), "a:b", "1%0a"} {
		if a, err := raw(t.Context(), s, http.MethodPut, "/v2/local/team/app/manifests/"+tag, as("alice")); err == nil && a.status/100 == 2 {
			t.Errorf("a push under the tag %q: %d", tag, a.status)
		}
	}
}

// raw sends a path as it stands, without cleaning it.
func raw(ctx context.Context, s *server, method, target string, header ...string) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+s.registry, nil)
	if err != nil {
		return answer{}, err
	}
	req.URL.Opaque = "//" + s.registry + target
	name, value, _ := strings.Cut(header[0], ": ")
	req.Header.Set(name, value)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	return answer{status: resp.StatusCode, header: resp.Header}, nil
}

// TestThreatPrivateUpstreamContent: what one caller's pull put into the cache is
// no more open to another than it is upstream: by rule, for every kind of
// request alike.
func TestThreatPrivateUpstreamContent(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	img := image(t, "amd64", layerText(t, "private"))
	digest := u.push(t, "secret/app", "1", img).String()
	u.push(t, "public/app", "1", img)
	s := gated(t, u, "")
	blob := must(must(img.Layers())(t)[0].Digest())(t).String()
	paths := []string{"manifests/1", "manifests/" + digest, "blobs/" + blob, "tags/list", "referrers/" + digest}
	for _, p := range paths { // now it is all in the cache
		if a := s.get(t, "/v2/up/secret/app/"+p, as("op")); a.status != http.StatusOK {
			t.Fatalf("%s by op: %d %s", p, a.status, a.body)
		}
	}
	if a := s.get(t, "/v2/up/public/app/manifests/1", as("node")); a.status != http.StatusOK {
		t.Errorf("the same image where node may read it: %d", a.status)
	}
	for _, p := range paths {
		for who, want := range map[string]int{"node": http.StatusForbidden, "alice": http.StatusForbidden, "": http.StatusUnauthorized} {
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				for _, name := range []string{"up/secret/app", "secret/app"} { // the default upstream is the same
					if a := s.ask(t, method, path.Join("/v2", name, p), as(who)); a.status != want {
						t.Errorf("%s %s/%s by %q: %d, want %d", method, name, p, who, a.status, want)
					}
				}
			}
			if a := s.get(t, "/v2/secret/app/"+p+"?ns=up", as(who)); a.status != want {
				t.Errorf("%s with ns by %q: %d, want %d", p, who, a.status, want)
			}
		}
	}
}
