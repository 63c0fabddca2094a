package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// noCharts denies charts in one repository, by what they are.
const noCharts = `version: 1
policies:
  - name: default
    images: ["**"]
    rules:
      - {id: critical, for: finding, when: 'finding.severity >= CRITICAL', action: deny}
      - {id: leaked, for: secret, when: 'secret.kind == "private-key"', action: deny}
      - {id: unread, for: image, when: '!image.analysis.complete', action: deny}
  - name: images-only
    images: ["local/team/images/**"]
    rules:
      - {id: no-charts, for: image, when: 'image.artifactType.contains("helm")', action: deny}
    messages: {no-charts: "only images belong here; push charts to local/team/charts"}
`

// TestOras: artifacts are pushed and pulled, and attached to an image that is
// served as well as to one that is in quarantine, and are found there.
func TestOras(t *testing.T) {
	t.Parallel()
	tool(t, "oras")
	s := gated(t, newUpstream(t), "")
	m := newMachine(t)
	if out, err := orasLogin(t, m, s.registry, "alice", passwordOf("alice")); err != nil {
		t.Fatalf("login: %v\n%s", err, out)
	}
	write(t, filepath.Join(m.dir, "sbom.json"), []byte(`{"spdxVersion":"SPDX-2.3"}`))
	write(t, filepath.Join(m.dir, "key.pem"), []byte(privateKey(t)))
	oras := func(args ...string) (string, error) {
		return m.inside(t, "oras", append(args, "--plain-http")...)
	}
	artifact := s.registry + "/local/team/artifact:1"
	if out, err := oras("push", "--artifact-type", "application/vnd.acme.thing", artifact, "sbom.json:application/json"); err != nil {
		t.Fatalf("push: %v\n%s", err, out)
	}
	if out, err := oras("pull", "--output", "got", artifact); err != nil {
		t.Errorf("pull: %v\n%s", err, out)
	}
	if got, err := os.ReadFile(filepath.Join(m.dir, "got", "sbom.json")); err != nil || string(got) != `{"spdxVersion":"SPDX-2.3"}` {
		t.Errorf("pulled %q, %v", got, err)
	}

	served := s.wantPush(t, "alice", "local/team/app", "1", alpineImage(t, clean))
	held := s.wantPush(t, "alice", "local/quarantine/app", "1", alpineImage(t, vulnerable))
	for name, subject := range map[string]string{"local/team/app": served.String(), "local/quarantine/app": held.String()} {
		reference := s.registry + "/" + name + ":1"
		out, err := oras("attach", "--artifact-type", "application/spdx+json", reference, "sbom.json:application/spdx+json", "--format", "json")
		if err != nil {
			t.Errorf("attach to %s: %v\n%s", name, err, out)
			continue
		}
		var attached struct{ Digest string }
		if err := json.Unmarshal([]byte(out), &attached); err != nil || attached.Digest == "" {
			t.Errorf("attach to %s: %v\n%s", name, err, out)
		}
		if out, err = oras("discover", "--distribution-spec", "v1.1-referrers-api", reference, "--format", "json"); err != nil || !strings.Contains(out, attached.Digest) {
			t.Errorf("discover %s: %v\n%s", name, err, out)
		}
		if a := s.get(t, "/v2/"+name+"/referrers/"+subject, as("node")); !strings.Contains(string(a.body), attached.Digest) {
			t.Errorf("referrers of %s: %d %s", name, a.status, a.body)
		}
		s.pulls(t, name, attached.Digest, map[string]int{"node": http.StatusOK})
	}
	s.pulls(t, "local/quarantine/app", "1", map[string]int{"node": http.StatusForbidden})
}

// TestHelm: a chart is pushed and pulled, and refused, with the reason shown,
// where the policy wants no charts and where it has a private key in it.
func TestHelm(t *testing.T) {
	t.Parallel()
	tool(t, "helm")
	s := gated(t, newUpstream(t), "policy: {file: "+policyFile(t, noCharts)+"}\n")
	m := newMachine(t)
	helm := func(args ...string) (string, error) { return m.inside(t, "helm", args...) }
	if out, err := m.run(t, passwordOf("alice"), "helm", "registry", "login", s.registry, "--plain-http", "--username", "alice", "--password-stdin"); err != nil {
		t.Fatalf("login: %v\n%s", err, out)
	}
	for name, values := range map[string]string{"shop": "replicas: 1\n", "leaky": "tls: |\n  " + strings.ReplaceAll(privateKey(t), "\n", "\n  ") + "\n"} {
		write(t, filepath.Join(m.dir, name, "Chart.yaml"), fmt.Appendf(nil, "apiVersion: v2\nname: %s\nversion: 1.2.3\n", name))
		write(t, filepath.Join(m.dir, name, "values.yaml"), []byte(values))
		write(t, filepath.Join(m.dir, name, "templates", "map.yaml"), []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: shop}\n"))
		if out, err := helm("package", name); err != nil {
			t.Fatalf("package: %v\n%s", err, out)
		}
	}
	if out, err := helm("push", "--plain-http", "shop-1.2.3.tgz", "oci://"+s.registry+"/local/team/charts"); err != nil {
		t.Fatalf("push: %v\n%s", err, out)
	}
	if err := os.Mkdir(filepath.Join(m.dir, "got"), 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := helm("pull", "--plain-http", "oci://"+s.registry+"/local/team/charts/shop", "--version", "1.2.3", "--destination", "got"); err != nil {
		t.Errorf("pull: %v\n%s", err, out)
	}
	want := must(os.ReadFile(filepath.Join(m.dir, "shop-1.2.3.tgz")))(t)
	if got, err := os.ReadFile(filepath.Join(m.dir, "got", "shop-1.2.3.tgz")); err != nil || string(got) != string(want) {
		t.Errorf("the chart that was pulled is another: %v", err)
	}
	for _, tt := range []struct{ chart, to, reason string }{
		{"shop", "local/team/images", "only images belong here"},
		{"leaky", "local/team/charts", "private key"},
	} {
		out, err := helm("push", "--plain-http", tt.chart+"-1.2.3.tgz", "oci://"+s.registry+"/"+tt.to)
		if err == nil {
			t.Errorf("%s was pushed to %s:\n%s", tt.chart, tt.to, out)
		}
		for _, word := range []string{tt.reason, "(verdict "} {
			if !strings.Contains(out, word) {
				t.Errorf("helm does not show %q:\n%s", word, out)
			}
		}
		s.pulls(t, tt.to+"/"+tt.chart, "1.2.3", map[string]int{"alice": http.StatusNotFound})
	}
}
