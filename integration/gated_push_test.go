package integration

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	godigest "github.com/opencontainers/go-digest"
	"golang.org/x/crypto/bcrypt"

	"github.com/sluiceproxy/sluice/signing/signtest"
)

// The users of gated servers. Their passwords are their names backwards.
var people = []string{"alice", "bob", "node", "op"}

// rules let alice and the robots push to local/team, bob to local/other, node
// only pull, and op do everything; nobody pulls from local/private but op.
const rules = `
  rules:
    - {who: ['user:alice', 'robot:ci-*'], may: [push, delete], repositories: ['local/team/**', 'local/quarantine/**']}
    - {who: ['user:bob'], may: [push], repositories: ['local/other/**']}
    - {who: ['user:*', 'robot:*'], may: [pull], repositories: ['local/team/**', 'local/quarantine/**', 'local/other/**', 'local/prod/**', 'up/public/**']}
    - {who: ['user:op'], may: [pull, push, delete, operate]}
`

// gated starts a server with the users, the rules and more of the configuration
// of the gated registry, indented by two.
func gated(t *testing.T, u *upstream, registry string) *server {
	t.Helper()
	var lines strings.Builder
	for _, name := range people {
		hash := must(bcrypt.GenerateFromPassword([]byte(passwordOf(name)), bcrypt.MinCost))(t)
		fmt.Fprintf(&lines, "%s:%s\n", name, hash)
	}
	users := filepath.Join(t.TempDir(), "htpasswd")
	write(t, users, []byte(lines.String()))
	config := "auth:\n  htpasswd: " + users + rules + `registry:
  modes:
    - {repositories: ['local/quarantine/**'], mode: quarantine}
  immutableTags:
    - {repositories: ['local/**'], tags: ['v*']}
` + registry
	return start(t, options{upstream: u.URL, advisories: smallFeed(t), config: config})
}

func passwordOf(name string) string {
	b := []byte(name)
	slices.Reverse(b)
	return "pass-" + string(b)
}

// as is the header by which a user asks, or nobody.
func as(name string) string {
	if name == "" {
		return "X-Nobody: 1"
	}
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+passwordOf(name)))
}

// sends a request with a body to the registry listener.
func (s *server) send(t *testing.T, method, path string, body []byte, header ...string) answer {
	t.Helper()
	return ask(t, method, "http://"+s.registry+path, body, header...)
}

// pushBlobs uploads the blobs of an image.
func (s *server) pushBlobs(t *testing.T, who, name string, img v1.Image) {
	t.Helper()
	for d, b := range contentOf(t, img) {
		if a := s.send(t, http.MethodPost, "/v2/"+name+"/blobs/uploads/?digest="+d, b, as(who), "Content-Type: application/octet-stream"); a.status != http.StatusCreated {
			t.Fatalf("push of blob %s to %s by %q: %d %s", d, name, who, a.status, a.body)
		}
	}
}

// putManifest pushes the manifest of m.
func (s *server) putManifest(t *testing.T, who, name, reference string, m manifest) answer {
	t.Helper()
	return s.send(t, http.MethodPut, "/v2/"+name+"/manifests/"+reference, must(m.RawManifest())(t), as(who), "Content-Type: "+string(must(m.MediaType())(t)))
}

// pushImage pushes an image as clients do and returns the answer to the manifest.
func (s *server) pushImage(t *testing.T, who, name, reference string, img v1.Image) answer {
	t.Helper()
	s.pushBlobs(t, who, name, img)
	return s.putManifest(t, who, name, reference, img)
}

// wantPush is pushImage, which must succeed.
func (s *server) wantPush(t *testing.T, who, name, reference string, img v1.Image) godigest.Digest {
	t.Helper()
	a := s.pushImage(t, who, name, reference, img)
	if a.status != http.StatusCreated {
		t.Fatalf("push of %s:%s by %q: %d %s", name, reference, who, a.status, a.body)
	}
	return godigest.Digest(a.header.Get("Docker-Content-Digest"))
}

// pulls is the status of a GET of the manifest by each of the users.
func (s *server) pulls(t *testing.T, name, reference string, want map[string]int) {
	t.Helper()
	for who, status := range want {
		if a := s.get(t, "/v2/"+name+"/manifests/"+reference, as(who)); a.status != status {
			t.Errorf("pull of %s:%s by %q: %d %s, want %d", name, reference, who, a.status, a.body, status)
		}
	}
}

// TestPushModes: what becomes of a denied image, who sees it, what releases it.
func TestPushModes(t *testing.T) {
	t.Parallel()
	s := gated(t, newUpstream(t), "")
	bad, good := alpineImage(t, vulnerable), alpineImage(t, clean)

	t.Run("reject", func(t *testing.T) {
		a := s.pushImage(t, "alice", "local/team/app", "1", bad)
		code, message := a.refused(t)
		if a.status != http.StatusForbidden || code != "DENIED" {
			t.Errorf("%d %s", a.status, code)
		}
		for _, word := range []string{victimCVE, "libvictim", "1.0.1-r0"} {
			if !strings.Contains(message, word) {
				t.Errorf("the message does not say %q: %s", word, message)
			}
		}
		s.pulls(t, "local/team/app", "1", map[string]int{"alice": 404, "op": 404, "node": 404})
		fixed := s.wantPush(t, "alice", "local/team/app", "1", good) // under the same tag
		s.pulls(t, "local/team/app", "1", map[string]int{"node": 200, "bob": 200})
		if a := s.get(t, "/v2/local/team/app/manifests/1", as("node")); godigest.FromBytes(a.body) != fixed {
			t.Error("another image was served")
		}
	})

	t.Run("quarantine", func(t *testing.T) {
		a := s.pushImage(t, "alice", "local/quarantine/app", "1", bad)
		if a.status != http.StatusCreated || !strings.HasPrefix(a.header.Get("Sluice-Verdict"), "deny; id=") || !strings.Contains(a.header.Get("Warning"), victimCVE) {
			t.Fatalf("%d %s %v", a.status, a.body, a.header)
		}
		layer := must(must(bad.Layers())(t)[0].Digest())(t).String()
		hidden := func() {
			t.Helper()
			s.pulls(t, "local/quarantine/app", "1", map[string]int{"alice": 200, "op": 200, "node": 403, "": 401})
			for who, status := range map[string]int{"alice": 200, "node": 403} {
				if a := s.get(t, "/v2/local/quarantine/app/blobs/"+layer, as(who)); a.status != status {
					t.Errorf("blob by %s: %d, want %d", who, a.status, status)
				}
			}
		}
		hidden()
		// A signature of what is in quarantine can be pushed.
		signed := must(partial.Descriptor(bad))(t)
		signature := mutate.Subject(image(t, "amd64", layerText(t, "signature")), *signed).(v1.Image) //nolint:errcheck,forcetypeassert // Subject returns what it was given
		if a := s.pushImage(t, "alice", "local/quarantine/app", "signature", signature); a.status != http.StatusCreated || a.header.Get("OCI-Subject") != signed.Digest.String() {
			t.Errorf("signature: %d %s, OCI-Subject %q", a.status, a.body, a.header.Get("OCI-Subject"))
		}
		if a := s.get(t, "/v2/local/quarantine/app/referrers/"+signed.Digest.String(), as("node")); !strings.Contains(string(a.body), must(signature.Digest())(t).String()) {
			t.Errorf("referrers: %d %s", a.status, a.body)
		}
		hidden()

		// A waiver releases, and its end takes back.
		w := s.api(t, http.MethodPost, "/waivers", map[string]any{
			"advisory": victimCVE, "images": []string{"local/quarantine/app"}, "owner": "op", "reason": "test", "expires": "2099-01-01T00:00:00Z",
		})
		var granted struct {
			ID string `json:"id"`
		}
		if err := json.Unmarshal(w.body, &granted); err != nil || w.status != http.StatusCreated {
			t.Fatalf("waiver: %d %s", w.status, w.body)
		}
		s.pulls(t, "local/quarantine/app", "1", map[string]int{"node": 200})
		if a := s.get(t, "/v2/local/quarantine/app/blobs/"+layer, as("node")); a.status != http.StatusOK {
			t.Errorf("blob of the released image: %d", a.status)
		}
		if a := s.api(t, http.MethodDelete, "/waivers/"+granted.ID, nil); a.status != http.StatusNoContent {
			t.Fatalf("end of the waiver: %d", a.status)
		}
		hidden()

		// So does a new state of the advisories.
		if out, code := sluice(t, "db", "update", "--data", s.data, "--from", emptyFeed(t)); code != 0 {
			t.Fatalf("db update: exit %d\n%s", code, out)
		}
		until(t, "the new advisories release the image", func() error {
			if a := s.get(t, "/v2/local/quarantine/app/manifests/1", as("node")); a.status != http.StatusOK {
				return fmt.Errorf("%d %s", a.status, a.body)
			}
			return nil
		})
	})
}

// TestAnnotateIsOfTheGatedRegistry: a mode that lets denied pushes pass is no
// hole for upstream images, whatever its pattern, and a block still holds.
func TestAnnotateIsOfTheGatedRegistry(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	bad := alpineImage(t, vulnerable)
	u.push(t, "app", "1", bad)
	s := start(t, options{upstream: u.URL, advisories: smallFeed(t), config: everyone + "registry: {modes: [{repositories: ['**'], mode: annotate}]}\n"})
	if a := s.get(t, "/v2/up/app/manifests/1"); a.status != http.StatusForbidden {
		t.Errorf("upstream image: %d", a.status)
	}
	if a := s.pushImage(t, "", "local/app", "1", bad); a.status != http.StatusCreated || !strings.HasPrefix(a.header.Get("Sluice-Verdict"), "annotate; ") || !strings.Contains(a.header.Get("Warning"), victimCVE) {
		t.Errorf("push: %d %v", a.status, a.header)
	}
	s.block(t, "digest", must(bad.Digest())(t).String())
	if a := s.get(t, "/v2/local/app/manifests/1"); a.status != http.StatusForbidden {
		t.Errorf("blocked: %d", a.status)
	}
}

// emptyFeed is smallFeed without the advisory that denies.
func emptyFeed(t *testing.T) string {
	t.Helper()
	dir := smallFeed(t)
	name := filepath.Join(dir, "Alpine", "all.zip")
	old := must(zip.OpenReader(name))(t)
	defer old.Close()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, f := range old.File {
		if f.Name == victimAdvisory+".json" {
			continue
		}
		if err := z.Copy(f); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, name, b.Bytes())
	return dir
}

// layerText is a layer with one small file.
func layerText(t *testing.T, text string) v1.Layer {
	t.Helper()
	return layer(t, files{{"etc/motd", text}})
}

// TestPushLifecycle: immutable tags, deletion, the catalog by rights, promotion,
// robots, garbage, and the verdict before the pull.
func TestPushLifecycle(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	u.push(t, "public/app", "1", alpineImage(t, vulnerable))
	s := gated(t, u, "")
	one, two, bad := image(t, "amd64", layerText(t, "one")), image(t, "amd64", layerText(t, "two")), alpineImage(t, vulnerable)
	ops := "http://" + s.ops

	first := s.wantPush(t, "alice", "local/team/app", "v1", one)
	a := s.pushImage(t, "alice", "local/team/app", "v1", two)
	if _, message := a.refused(t); a.status != http.StatusForbidden || !strings.Contains(message, "immutable") {
		t.Errorf("an immutable tag moved: %d %s", a.status, message)
	}
	for path, status := range map[string]int{"v1": 403, first.String(): 403} {
		if a := s.ask(t, http.MethodDelete, "/v2/local/team/app/manifests/"+path, as("alice")); a.status != status {
			t.Errorf("DELETE %s by its pusher: %d %s, want %d", path, a.status, a.body, status)
		}
	}
	second := s.wantPush(t, "alice", "local/team/app", "main", two)
	if a := s.ask(t, http.MethodDelete, "/v2/local/team/app/manifests/"+second.String(), as("bob")); a.status != http.StatusForbidden {
		t.Errorf("DELETE without the right: %d", a.status)
	}
	if a := s.ask(t, http.MethodDelete, "/v2/local/team/app/manifests/"+second.String(), as("alice")); a.status != http.StatusAccepted {
		t.Errorf("DELETE: %d %s", a.status, a.body)
	}
	s.pulls(t, "local/team/app", "main", map[string]int{"alice": 404, "node": 404})
	last := s.wantPush(t, "alice", "local/team/once", "1", two)
	for _, ask := range []struct {
		method, path string
		status       int
		body         string
	}{
		{http.MethodDelete, "/v2/local/team/once/blobs/" + must(two.ConfigName())(t).String(), 405, "delete that one first"},
		{http.MethodDelete, "/v2/local/team/once/manifests/" + last.String(), 202, ""},
		{http.MethodGet, "/v2/local/team/once/tags/list", 200, `"tags":[]`},
		{http.MethodGet, "/v2/local/team/never/tags/list", 404, "NAME_UNKNOWN"},
		{http.MethodGet, "/v2/local/team/once/manifests/.no-tag", 404, "MANIFEST_UNKNOWN"},
		{http.MethodHead, "/v2/local/team/once/manifests/.no-tag", 404, ""},
		{http.MethodPut, "/v2/local/team/once/manifests/.no-tag", 400, "NAME_INVALID"},
	} {
		if a := s.ask(t, ask.method, ask.path, as("alice")); a.status != ask.status || !strings.Contains(string(a.body), ask.body) {
			t.Errorf("%s %s: %d %s, want %d", ask.method, ask.path, a.status, a.body, ask.status)
		}
	}

	s.wantPush(t, "op", "local/private/app", "1", one)
	for who, want := range map[string]string{"node": `["local/team/app"]`, "op": `["local/private/app","local/team/app"]`} {
		if a := s.get(t, "/v2/_catalog", as(who)); !strings.Contains(string(a.body), want) {
			t.Errorf("catalog of %s: %s, want %s", who, a.body, want)
		}
	}

	signature := mutate.Subject(image(t, "amd64", layerText(t, "signature")), *must(partial.Descriptor(one))(t)).(v1.Image) //nolint:errcheck,forcetypeassert // Subject returns what it was given
	s.wantPush(t, "alice", "local/team/app", "signature", signature)
	cosign := "sha256-" + first.Encoded() + ".sig"
	s.wantPush(t, "alice", "local/team/app", cosign, image(t, "amd64", layerText(t, "as cosign does")))
	out, code := sluice(t, "promote", "local/team/app@"+first.String(), "local/prod/app:v1", "--server", ops)
	if code != 0 || !strings.Contains(out, first.String()) {
		t.Errorf("promote: exit %d\n%s", code, out)
	}
	if a := s.get(t, "/v2/local/prod/app/manifests/v1", as("node")); godigest.FromBytes(a.body) != first {
		t.Errorf("promoted: %d %s", a.status, a.body)
	}
	s.pulls(t, "local/prod/app", cosign, map[string]int{"node": 200})
	if a := s.get(t, "/v2/local/prod/app/referrers/"+first.String(), as("node")); !strings.Contains(string(a.body), must(signature.Digest())(t).String()) {
		t.Errorf("referrers of the promoted image: %d %s", a.status, a.body)
	}
	for blob, want := range contentOf(t, one) {
		if a := s.get(t, "/v2/local/prod/app/blobs/"+blob, as("node")); string(a.body) != string(want) {
			t.Errorf("blob of the promoted image: %d", a.status)
		}
	}
	s.wantPush(t, "alice", "local/quarantine/app", "1", bad)
	if out, code := sluice(t, "promote", "local/quarantine/app:1", "local/prod/app:2", "--server", ops); code != 1 {
		t.Errorf("promote of a denied image: exit %d, want 1\n%s", code, out)
	}
	s.pulls(t, "local/prod/app", "2", map[string]int{"op": 404})
	for from, to := range map[string]string{"local/none:1": "local/prod/app:3", "up/public/app:1": "local/prod/app:3"} {
		if out, code := sluice(t, "promote", from, to, "--server", ops); code == 0 || code == 1 {
			t.Errorf("promote %s: exit %d\n%s", from, code, out)
		}
	}

	for target, want := range map[string]int{
		"local/team/app:v1": 0, s.registry + "/local/team/app:v1": 0, "local/quarantine/app:1": 1, "up/public/app:1": 1, "local/none:1": 3, "nowhere.example/app:1": 2,
	} {
		if out, code := sluice(t, "check", target, "--server", ops); code != want {
			t.Errorf("check %s: exit %d, want %d\n%s", target, code, want, out)
		}
	}

	// A robot: made, used with both ways to log in, removed.
	secret, code := sluice(t, "robot", "add", "ci-app", "--expires", "1h", "--server", ops)
	if secret = strings.TrimSpace(secret); code != 0 || len(secret) < 50 {
		t.Fatalf("robot add: exit %d %q", code, secret)
	}
	basic := "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("ci-app:"+secret))
	for _, header := range []string{basic, "Authorization: Bearer " + secret} {
		if a := s.send(t, http.MethodPost, "/v2/local/team/app/blobs/uploads/", nil, header); a.status != http.StatusAccepted {
			t.Errorf("upload by the robot: %d %s", a.status, a.body)
		}
		if a := s.send(t, http.MethodPost, "/v2/local/other/app/blobs/uploads/", nil, header); a.status != http.StatusForbidden {
			t.Errorf("upload of the robot elsewhere: %d", a.status)
		}
	}
	if out, code := sluice(t, "robot", "list", "--server", ops); code != 0 || !strings.Contains(out, "ci-app") || strings.Contains(out, secret) {
		t.Errorf("robot list: exit %d\n%s", code, out)
	}
	if out, code := sluice(t, "robot", "remove", "ci-app", "--server", ops); code != 0 {
		t.Errorf("robot remove: exit %d\n%s", code, out)
	}
	if a := s.send(t, http.MethodPost, "/v2/local/team/app/blobs/uploads/", nil, basic); a.status != http.StatusUnauthorized {
		t.Errorf("upload by a robot that is gone: %d", a.status)
	}

	if out, code := sluice(t, "gc", "--dry-run", "--server", ops); code != 0 || !strings.Contains(out, "would remove 0 images") {
		t.Errorf("gc: exit %d\n%s", code, out)
	}
	for _, action := range []string{"registry.promote", "robot.add", "robot.remove"} {
		if a := s.api(t, http.MethodGet, "/audit?action="+action, nil); !strings.Contains(string(a.body), action) {
			t.Errorf("the audit trail has no %s: %s", action, a.body)
		}
	}
	if a := s.ask(t, http.MethodDelete, "/v2/local/team/app/manifests/"+first.String(), as("op")); a.status != http.StatusAccepted {
		t.Errorf("DELETE of an immutable tag's manifest by an operator: %d %s", a.status, a.body)
	}
	s.pulls(t, "local/team/app", "v1", map[string]int{"node": 404})
}

// TestRetention: the server lets go what the rules do, and nothing before the
// grace is over.
func TestRetention(t *testing.T) {
	t.Parallel()
	s := gated(t, newUpstream(t), "  gc: {every: 0s, grace: 1s}\n  retention: [{repositories: ['local/team/**'], keepLast: 1, keepTags: [keep]}]\n")
	for _, tag := range []string{"keep", "old", "new"} {
		s.wantPush(t, "alice", "local/team/app", tag, image(t, "amd64", layerText(t, tag)))
	}
	until(t, "the old image goes", func() error {
		out, code := sluice(t, "gc", "--server", "http://"+s.ops)
		if code != 0 {
			t.Fatalf("gc: exit %d\n%s", code, out)
		}
		if a := s.get(t, "/v2/local/team/app/manifests/old", as("node")); a.status != http.StatusNotFound {
			return fmt.Errorf("%d\n%s", a.status, out)
		}
		return nil
	})
	s.pulls(t, "local/team/app", "new", map[string]int{"node": 200})
	s.pulls(t, "local/team/app", "keep", map[string]int{"node": 200})
	blob := must(must(image(t, "amd64", layerText(t, "old")).Layers())(t)[0].Digest())(t).String()
	until(t, "its layer goes too", func() error {
		if a := s.api(t, http.MethodPost, "/gc", nil); !strings.Contains(string(a.body), blob) {
			return fmt.Errorf("%d %s", a.status, a.body)
		}
		return nil
	})
	q := url.Values{"action": {"registry.retain"}}
	if a := s.api(t, http.MethodGet, "/audit?"+q.Encode(), nil); !strings.Contains(string(a.body), "local/team/app@sha256:") {
		t.Errorf("audit: %s", a.body)
	}
}

// TestDeletedImage: what refers to an image that a client deleted goes after the
// grace, with what Sluice says of it; nothing else does.
func TestDeletedImage(t *testing.T) {
	t.Parallel()
	s := attesting(t, newUpstream(t), signtest.NewKey(t, "p256"), "registry: {gc: {every: 0s, grace: 1s}}\n")
	const repository = "/v2/local/team/app/manifests/"
	status := map[string]int{}     // at the end, by path
	removed := map[string]bool{}   // blobs that must go, and whether they have
	stays := map[string]struct{}{} // blobs that must not
	push := func(img v1.Image) godigest.Digest {
		d := must(img.Digest())(t)
		return s.wantPush(t, "", "local/team/app", d.String(), img)
	}
	var deleted string
	for _, text := range []string{"gone", "stays"} {
		img := image(t, "amd64", layerText(t, text))
		referrer := mutate.Subject(image(t, "amd64", layerText(t, "about "+text)), *must(partial.Descriptor(img))(t)).(v1.Image) //nolint:errcheck,forcetypeassert // Subject returns what it was given
		d, about := push(img), push(referrer)
		side := "/v2/_attest/local/team/app/manifests/" + strings.Replace(d.String(), ":", "-", 1) + ".att"
		until(t, "the image is attested", func() error {
			if a := s.get(t, side); a.status != http.StatusOK {
				return fmt.Errorf("%d %s", a.status, a.body)
			}
			return nil
		})
		status[side], status[repository+about.String()] = http.StatusOK, http.StatusOK
		for blob := range contentOf(t, referrer) {
			stays[blob] = struct{}{}
		}
		if text == "gone" {
			deleted = repository + d.String()
			status[side], status[repository+about.String()] = http.StatusNotFound, http.StatusNotFound
			for blob := range stays {
				removed[blob] = false
			}
			clear(stays)
		}
	}
	if a := s.ask(t, http.MethodDelete, deleted); a.status != http.StatusAccepted {
		t.Fatalf("DELETE: %d %s", a.status, a.body)
	}
	until(t, "what refers to the deleted image is gone", func() error {
		out, code := sluice(t, "gc", "--format", "json", "--server", "http://"+s.ops)
		if code != 0 {
			t.Fatalf("gc: exit %d\n%s", code, out)
		}
		left := ""
		for blob, gone := range removed { // not asked for: that would keep it
			if removed[blob] = gone || strings.Contains(out, blob); !removed[blob] {
				left += blob + "\n"
			}
		}
		for path, want := range status {
			if a := s.get(t, path); a.status != want {
				left += fmt.Sprintln(path, a.status)
			}
		}
		if left != "" {
			return errors.New(left)
		}
		return nil
	})
	for blob := range stays {
		if a := s.get(t, "/v2/local/team/app/blobs/"+blob); a.status != http.StatusOK {
			t.Errorf("blob of the other image's referrer: %d", a.status)
		}
	}
}
