package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// block adds a blocklist entry through the API and returns its id.
func (s *server) block(t *testing.T, target, value string) string {
	t.Helper()
	a := s.api(t, http.MethodPost, "/blocklist", map[string]string{
		target: value, "reason": "incident 4711", "owner": "alice",
	})
	var b struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(a.body, &b); err != nil || a.status != http.StatusCreated || b.ID == "" {
		t.Fatalf("POST /blocklist: %d %s (%v)", a.status, a.body, err)
	}
	return b.ID
}

func (s *server) unblock(t *testing.T, id string) {
	t.Helper()
	if a := s.api(t, http.MethodDelete, "/blocklist/"+id, nil); a.status != http.StatusNoContent {
		t.Fatalf("DELETE /blocklist/%s: %d %s", id, a.status, a.body)
	}
}

// TestBlock: an operator's block holds on the very next request, for content
// that is cached and was served a moment ago, and so does its removal.
func TestBlock(t *testing.T) {
	u := newUpstream(t)
	img := alpineImage(t, noisy)
	digest := u.push(t, "team/app", "1.0", img)
	s := start(t, options{upstream: u.URL, advisories: smallFeed(t)})
	config := "/v2/up/team/app/blobs/" + must(img.ConfigName())(t).String()
	for _, tt := range []struct{ target, value string }{
		{"digest", digest.String()},
		{"image", "up/team/*"},
		{"advisory", noisyCVE},
		{"advisory", noisyAdvisory},
	} {
		t.Run(fmt.Sprintf("%s %s", tt.target, tt.value), func(t *testing.T) {
			wantPull(t, s, "up/team/app", "1.0", img)
			id := s.block(t, tt.target, tt.value)
			for _, reference := range []string{"1.0", digest.String()} {
				a := s.get(t, "/v2/up/team/app/manifests/"+reference)
				code, message := a.refused(t)
				if a.status != http.StatusForbidden || code != "DENIED" {
					t.Errorf("blocked manifest %s: %d %s", reference, a.status, code)
				}
				for _, word := range []string{"alice", "incident 4711"} {
					if !strings.Contains(message, word) {
						t.Errorf("the message does not name %q: %s", word, message)
					}
				}
			}
			if a := s.get(t, config); a.status == http.StatusOK {
				t.Error("a blob of a blocked image was served")
			}
			s.unblock(t, id)
			wantPull(t, s, "up/team/app", "1.0", img)
		})
	}
	if n := s.metric(t, "sluice_analyses_total"); n != 1 {
		t.Errorf("%v analyses, want 1: a block needs none", n)
	}
}

// TestBlockClients shows an operator's block to each client, added from the
// command line.
func TestBlockClients(t *testing.T) {
	u := newUpstream(t)
	digest := u.push(t, "app", "1", alpineImage(t, clean))
	s := start(t, options{upstream: u.URL, advisories: smallFeed(t)})
	out, code := sluice(t, "blocklist", "add", "--server", "http://"+s.ops, "--image", "up/app:1", "--reason", "incident 4711", "--owner", "alice")
	if code != 0 {
		t.Fatalf("blocklist add: exit %d\n%s", code, out)
	}
	for _, c := range clients() {
		t.Run(c.name, func(t *testing.T) {
			out, err := c.pull(t, s.registry+"/up/app:1", digest)
			if err == nil || !strings.Contains(out, "incident 4711") {
				t.Errorf("pull: %v\n%s", err, out)
			}
		})
	}
}

// TestKill: what was acknowledged before a SIGKILL holds after the restart, and
// cached content is served with the upstream gone.
func TestKill(t *testing.T) {
	u := newUpstream(t)
	kept, blocked := alpineImage(t, clean), alpineImage(t, noisy)
	keptDigest := u.push(t, "kept", "1", kept)
	blockedDigest := u.push(t, "blocked", "1", blocked)
	s := start(t, options{upstream: u.URL, advisories: smallFeed(t)})
	wantPull(t, s, "up/kept", "1", kept)
	wantPull(t, s, "up/blocked", "1", blocked)
	id := s.block(t, "digest", blockedDigest.String())
	s.kill(t)

	u.Close()
	s.run(t)
	wantPull(t, s, "up/kept", keptDigest.String(), kept)
	if a := s.get(t, "/v2/up/blocked/manifests/"+blockedDigest.String()); a.status != http.StatusForbidden {
		t.Errorf("blocked before the kill: %d, want 403", a.status)
	}
	if n := s.metric(t, "sluice_analyses_total"); n != 0 {
		t.Errorf("%v analyses after the restart, want 0", n)
	}
	s.unblock(t, id)
	wantPull(t, s, "up/blocked", blockedDigest.String(), blocked)
}
