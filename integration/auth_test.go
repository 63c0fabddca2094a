package integration

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

const user, password = "robot", "s3cret-of-the-test"

// basic lets requests through that carry user and password.
func (u *upstream) basic() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n, p, ok := r.BasicAuth(); !ok || n != user || p != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			status(http.StatusUnauthorized, "UNAUTHORIZED").ServeHTTP(w, r)
			return
		}
		u.content.ServeHTTP(w, r)
	})
}

// bearer lets requests through that carry a token from /token, which wants user
// and password (the Docker Registry v2 token protocol).
func (u *upstream) bearer() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		repository, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/")
		scope := "repository:" + repository + ":pull"
		switch {
		case r.URL.Path == "/token":
			if n, p, ok := r.BasicAuth(); !ok || n != user || p != password {
				status(http.StatusUnauthorized, "UNAUTHORIZED").ServeHTTP(w, r)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(map[string]any{"token": "for " + r.URL.Query().Get("scope"), "expires_in": 300})
		case r.URL.Path != "/v2/" && r.Header.Get("Authorization") == "Bearer for "+scope:
			u.content.ServeHTTP(w, r)
		default:
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="test"`, u.URL))
			status(http.StatusUnauthorized, "UNAUTHORIZED").ServeHTTP(w, r)
		}
	})
}

// TestCredentials: an upstream that wants credentials gets them, from the
// configuration or from Docker's; without them its 401 reaches the client.
func TestCredentials(t *testing.T) {
	for _, protect := range []struct {
		name string
		with func(*upstream) http.Handler
	}{
		{"basic", (*upstream).basic},
		{"bearer", (*upstream).bearer},
	} {
		for _, tt := range []struct {
			name   string
			given  string // where the credentials are
			status int
		}{
			{"configuration", "config", http.StatusOK},
			{"Docker's config.json", "docker", http.StatusOK},
			{"none", "", http.StatusUnauthorized},
			{"wrong", "wrong", http.StatusUnauthorized},
		} {
			t.Run(protect.name+" from "+tt.name, func(t *testing.T) {
				u := newUpstream(t)
				img := alpineImage(t, clean)
				u.push(t, "app", "1", img)
				u.guard(protect.with(u))
				dir := t.TempDir()
				write(t, filepath.Join(dir, "password"), []byte(map[string]string{"config": password, "wrong": "no"}[tt.given]+"\n"))
				o := options{advisories: smallFeed(t), config: "upstreams:\n  up:\n    url: " + u.URL + "\n"}
				switch tt.given {
				case "config", "wrong":
					o.config += "    username: " + user + "\n    passwordFile: " + filepath.Join(dir, "password") + "\n"
				case "docker":
					auth := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
					write(t, filepath.Join(dir, "config.json"),
						fmt.Appendf(nil, `{"auths":{%q:{"auth":%q}}}`, strings.TrimPrefix(u.URL, "http://"), auth))
					o.env = []string{"DOCKER_CONFIG=" + dir}
				}
				s := start(t, o)
				if tt.status == http.StatusOK {
					wantPull(t, s, "up/app", "1", img)
					if n := u.count(http.MethodGet, "/token"); n > 1 {
						t.Errorf("%d tokens for one repository, want one", n)
					}
				} else if a := s.get(t, "/v2/up/app/manifests/1"); a.status != tt.status {
					t.Errorf("%d %s, want %d", a.status, a.body, tt.status)
				}
				if strings.Contains(s.log.String(), password) {
					t.Error("the server's log holds the password")
				}
			})
		}
	}
}
