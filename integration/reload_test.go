package integration

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestReload: SIGHUP puts a changed policy in force; a broken one changes nothing.
func TestReload(t *testing.T) {
	u := newUpstream(t)
	u.push(t, "app", "1", alpineImage(t, clean))
	policy := filepath.Join(t.TempDir(), "policy.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(policy, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const lax = "version: 1\npolicies: [{name: lax, images: ['**'], rules: []}]\n"
	const strict = "version: 1\npolicies: [{name: strict, images: ['**'], rules: [{id: no-root, for: image, action: deny, when: 'image.name.startsWith(\"up/\")'}]}]\n"
	write(lax)
	s := start(t, options{upstream: u.URL, advisories: smallFeed(t), config: "policy: {file: " + policy + "}\n"})
	hangUp := func(say string) {
		t.Helper()
		before := strings.Count(s.log.String(), say)
		if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		until(t, "the log says "+say, func() error {
			if strings.Count(s.log.String(), say) > before {
				return nil
			}
			return fmt.Errorf("not yet")
		})
	}
	is := func(status int) {
		t.Helper()
		if a := s.get(t, "/v2/up/app/manifests/1"); a.status != status {
			t.Errorf("%d %s, want %d", a.status, a.body, status)
		}
	}
	is(http.StatusOK)
	write(strict)
	is(http.StatusOK) // not before the signal
	hangUp("policy reloaded")
	is(http.StatusForbidden)
	write(lax + "rulez: []\n")
	hangUp("policy not reloaded")
	is(http.StatusForbidden)
	write(lax)
	hangUp("policy reloaded")
	is(http.StatusOK)
}

// TestSecondSignal: the first lets a request under way go on, the second does not.
func TestSecondSignal(t *testing.T) {
	u := newUpstream(t)
	arrived, release := make(chan struct{}), make(chan struct{})
	defer close(release)
	u.fail("/v2/app/tags/list", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(arrived)
		<-release
	}))
	s := start(t, options{upstream: u.URL, advisories: smallFeed(t)})
	go func() { _, _ = try(t.Context(), http.MethodGet, "http://"+s.registry+"/v2/up/app/tags/list", nil) }()
	<-arrived
	s.killed = s.cmd // it ends with another status than 0
	for _, wait := range []string{"stopping", ""} {
		if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if wait != "" {
			until(t, "the log says "+wait, func() error {
				if strings.Contains(s.log.String(), wait) {
					return nil
				}
				return fmt.Errorf("not yet")
			})
		}
	}
	<-s.done
	if code := s.cmd.ProcessState.ExitCode(); code != 130 {
		t.Errorf("exit %d, want 130", code)
	}
}
