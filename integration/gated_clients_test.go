package integration

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// pusher is a tool that logs in and pushes. login keeps what it is given in m.
type pusher struct {
	name  string
	login func(t *testing.T, m machine, registry, user, secret string) (string, error)
	push  func(t *testing.T, m machine, layout, reference string) (string, error)
}

func pushers() []pusher {
	return []pusher{
		{
			"crane",
			func(t *testing.T, m machine, registry, user, secret string) (string, error) {
				return m.run(t, secret, "crane", "auth", "login", registry, "--insecure", "--username", user, "--password-stdin")
			},
			func(t *testing.T, m machine, layout, reference string) (string, error) {
				return m.run(t, "", "crane", "push", "--insecure", layout, reference)
			},
		},
		{
			"skopeo",
			func(t *testing.T, m machine, registry, user, secret string) (string, error) {
				return m.run(t, secret, "skopeo", "login", "--authfile", m.auth(), "--tls-verify=false", "--username", user, "--password-stdin", registry)
			},
			func(t *testing.T, m machine, layout, reference string) (string, error) {
				return m.run(t, "", "skopeo", "--registries-conf", m.registries(), "--policy", m.policy(),
					"copy", "--authfile", m.auth(), "--dest-tls-verify=false", "oci:"+layout, "docker://"+reference)
			},
		},
		{
			"podman",
			func(t *testing.T, m machine, registry, user, secret string) (string, error) {
				return m.run(t, secret, "podman", m.storage("login", "--authfile", m.auth(), "--tls-verify=false", "--username", user, "--password-stdin", registry)...)
			},
			func(t *testing.T, m machine, layout, reference string) (string, error) {
				id, err := m.run(t, "", "podman", m.storage("pull", "--quiet", "--signature-policy", m.policy(), "oci:"+layout)...)
				if err != nil {
					return id, err
				}
				return m.run(t, "", "podman", m.storage("push", "--authfile", m.auth(), "--tls-verify=false", "--signature-policy", m.policy(), lastLine(id), "docker://"+reference)...)
			},
		},
		{
			"buildah",
			func(t *testing.T, m machine, registry, user, secret string) (string, error) {
				return m.run(t, secret, "buildah", m.storage("login", "--authfile", m.auth(), "--tls-verify=false", "--username", user, "--password-stdin", registry)...)
			},
			func(t *testing.T, m machine, layout, reference string) (string, error) {
				id, err := m.run(t, "", "buildah", m.storage("pull", "--quiet", "--signature-policy", m.policy(), "oci:"+layout)...)
				if err != nil {
					return id, err
				}
				return m.run(t, "", "buildah", m.storage("push", "--authfile", m.auth(), "--tls-verify=false", "--signature-policy", m.policy(), lastLine(id), "docker://"+reference)...)
			},
		},
		{
			"oras",
			orasLogin,
			func(t *testing.T, m machine, layout, reference string) (string, error) {
				return m.run(t, "", "oras", "cp", "--from-oci-layout", layout+"@"+onlyOf(t, layout), "--to-plain-http", "--no-tty", reference)
			},
		},
	}
}

func orasLogin(t *testing.T, m machine, registry, user, secret string) (string, error) {
	return m.run(t, secret, "oras", "login", "--plain-http", "--username", user, "--password-stdin", registry)
}

// onlyOf is the digest of the one image of a layout.
func onlyOf(t *testing.T, dir string) string {
	t.Helper()
	return must(must(layout.ImageIndexFromPath(dir))(t).IndexManifest())(t).Manifests[0].Digest.String()
}

func (m machine) auth() string { return filepath.Join(m.dir, "auth.json") }

// storage are the flags that keep a tool's images below the machine's folder.
func (m machine) storage(args ...string) []string {
	return append([]string{
		"--registries-conf", m.registries(), "--root", filepath.Join(m.dir, "root"), "--runroot", filepath.Join(m.dir, "run"), "--storage-driver", "vfs",
	}, args...)
}

// run runs a tool with its configuration on the machine and input on its
// standard input.
func (m machine) run(t *testing.T, input, name string, args ...string) (string, error) {
	t.Helper()
	cmd := m.command(t, name, args...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// inside runs a tool in the machine's folder and returns what it prints to its
// standard output, after an error what it prints to both.
func (m machine) inside(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	cmd := m.command(t, name, args...)
	cmd.Dir = m.dir
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String() + stderr.String(), err
	}
	return stdout.String(), nil
}

func (m machine) command(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), tool(t, name), args...)
	cmd.Env = append(os.Environ(), "DOCKER_CONFIG="+m.dir, "HOME="+m.dir, "XDG_RUNTIME_DIR="+m.dir)
	return cmd
}

func lastLine(out string) string {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	return lines[len(lines)-1]
}

// layoutOf writes an image as an OCI layout.
func layoutOf(t *testing.T, img v1.Image) string {
	t.Helper()
	dir := must(os.MkdirTemp("", "layout"))(t) // podman takes no capitals in the path, which t.TempDir has
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := must(layout.Write(dir, empty.Index))(t).AppendImage(img); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestPushClients: each tool logs in with a password and as a robot, pushes what
// is allowed, shows why a denied image was refused, and replaces it by the fixed
// one.
func TestPushClients(t *testing.T) {
	t.Parallel()
	s := gated(t, newUpstream(t), "")
	a := s.api(t, http.MethodPost, "/robots", map[string]string{"name": "ci-clients"})
	var robot struct {
		Secret string `json:"secret"`
	}
	if err := json.Unmarshal(a.body, &robot); err != nil || robot.Secret == "" {
		t.Fatalf("robot: %d %s", a.status, a.body)
	}
	good, bad := layoutOf(t, alpineImage(t, clean)), layoutOf(t, alpineImage(t, vulnerable))
	for _, p := range pushers() {
		t.Run(p.name, func(t *testing.T) {
			for login, secret := range map[string]string{"alice": passwordOf("alice"), "ci-clients": robot.Secret} {
				m := newMachine(t)
				write(t, filepath.Join(m.dir, "config.json"), []byte("{}")) // podman's pull wants it where DOCKER_CONFIG says
				name := "local/team/" + p.name + "-" + login
				if out, err := p.login(t, m, s.registry, login, "wrong"); err == nil && p.name != "crane" { // crane does not ask the registry
					t.Errorf("login with a wrong password:\n%s", out)
				}
				if out, err := p.login(t, m, s.registry, login, secret); err != nil {
					t.Fatalf("login as %s: %v\n%s", login, err, out)
				}
				out, err := p.push(t, m, bad, s.registry+"/"+name+":1")
				if err == nil {
					t.Errorf("a vulnerable image was pushed:\n%s", out)
				}
				for _, word := range []string{victimCVE, "libvictim", "(verdict "} {
					if !strings.Contains(out, word) {
						t.Errorf("%s does not show %q:\n%s", p.name, word, out)
					}
				}
				s.pulls(t, name, "1", map[string]int{"node": http.StatusNotFound})
				if out, err := p.push(t, m, good, s.registry+"/"+name+":1"); err != nil {
					t.Errorf("the fixed image under the same tag: %v\n%s", err, out)
				}
				s.pulls(t, name, "1", map[string]int{"node": http.StatusOK})
				if out, err := p.push(t, m, good, s.registry+"/local/other/app:1"); err == nil {
					t.Errorf("pushed without the right:\n%s", out)
				}
				if out, err := p.push(t, m, bad, s.registry+"/local/quarantine/"+p.name+":1"); err != nil && login == "alice" {
					t.Errorf("push into quarantine: %v\n%s", err, out)
				}
			}
			s.pulls(t, "local/quarantine/"+p.name, "1", map[string]int{"alice": http.StatusOK, "node": http.StatusForbidden})
		})
	}
}
