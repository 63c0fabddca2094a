package integration

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	godigest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sluiceproxy/sluice/signing/signtest"
)

// bySigner is a policy that demands a signature by the key in signer.pub, which
// lies beside it.
const bySigner = `version: 1
keys:
  - {name: signer, any: [{file: signer.pub}]}
policies:
  - name: signed
    images: ["**"]
    rules: []
    trust:
      authorities: [{name: signer, key: {ref: signer}}]
`

// signedPolicy writes bySigner and the key, and returns the policy's path.
func signedPolicy(t *testing.T, key []byte) string {
	t.Helper()
	name := policyFile(t, bySigner)
	write(t, filepath.Join(filepath.Dir(name), "signer.pub"), key)
	return name
}

// sign stores cosign's legacy signature of the digest beside it.
func (u *upstream) sign(t *testing.T, repository string, d godigest.Digest, key *signtest.Key) {
	t.Helper()
	l := key.Legacy(t, repository, d)
	u.pushBlob(t, repository, l.Data)
	u.pushBlob(t, repository, []byte("{}"))
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: godigest.FromString("{}"), Size: 2},
		Layers: []ocispec.Descriptor{{MediaType: l.MediaType, Digest: godigest.FromBytes(l.Data), Size: int64(len(l.Data)), Annotations: l.Annotations}},
	}
	u.put(t, http.MethodPut, "/v2/"+repository+"/manifests/"+strings.Replace(d.String(), ":", "-", 1)+".sig", m.MediaType, must(json.Marshal(m))(t))
}

// TestSigned: an image without the signature that the policy demands is refused
// by the server, by policy explain and by scan; with one it passes all three.
func TestSigned(t *testing.T) {
	t.Parallel()
	u, key := newUpstream(t), signtest.NewKey(t, "p256")
	unsigned := u.push(t, "app", "unsigned", alpineImage(t, clean))
	signed := u.push(t, "app", "signed", alpineImage(t, noisy))
	u.sign(t, "app", signed, key)
	u.sign(t, "app", unsigned, signtest.NewKey(t, "p256"))
	policy := signedPolicy(t, key.PEM)
	s := start(t, options{upstream: u.URL, advisories: smallFeed(t), config: "policy: {file: " + policy + "}\n"})

	a := s.get(t, "/v2/up/app/manifests/unsigned")
	if _, message := a.refused(t); a.status != http.StatusForbidden || !strings.Contains(message, "signed by somebody else") {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a = s.get(t, "/v2/up/app/manifests/signed"); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
	for _, tt := range []struct {
		tag  string
		code int
		want string
	}{{"signed", 0, "[pass] signer"}, {"unsigned", 1, "[fail] signer"}} {
		args := []string{"--policy", policy, "--upstream", "up=" + u.URL, "--data", s.data}
		out, code := sluice(t, append([]string{"policy", "explain", "up/app:" + tt.tag}, args...)...)
		if code != tt.code || !strings.Contains(out, tt.want) {
			t.Errorf("explain %s: exit %d\n%s", tt.tag, code, out)
		}
		out, code = sluice(t, append([]string{"policy", "explain", "up/app:" + tt.tag, "--format", "json"}, args...)...)
		var e struct {
			Policies []struct{ Result struct{ Outcome string } }
		}
		if err := json.Unmarshal([]byte(out), &e); err != nil || code != tt.code || len(e.Policies) != 1 || e.Policies[0].Result.Outcome == "" {
			t.Errorf("explain %s in JSON: exit %d, %v\n%s", tt.tag, code, err, out)
		}
		if out, code = sluice(t, append([]string{"scan", "up/app:" + tt.tag, "--platform", "linux/amd64"}, args...)...); code != tt.code {
			t.Errorf("scan %s: exit %d\n%s", tt.tag, code, out)
		}
	}

	// A key that cannot be read keeps the policy that is in force.
	if err := os.Remove(filepath.Join(filepath.Dir(policy), "signer.pub")); err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	until(t, "readiness tells of the policy", func() error { return wantStatus(t, "http://"+s.ops+"/readyz", http.StatusServiceUnavailable) })
	if a = s.get(t, "/v2/up/app/manifests/signed"); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a = s.get(t, "/v2/up/app/manifests/unsigned"); a.status != http.StatusForbidden {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// attesting starts a server that attests with the key, with more lines of
// configuration.
func attesting(t *testing.T, u *upstream, key *signtest.Key, more ...string) *server {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key.pem")
	der := must(x509.MarshalPKCS8PrivateKey(key.Private))(t)
	write(t, file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	return start(t, options{
		upstream: u.URL, advisories: smallFeed(t),
		config: everyone + "attest: {key: " + file + "}\npolicy: {file: " + policyFile(t, anything) + "}\n" + strings.Join(more, ""),
	})
}

// attested waits for the attestations of an image that was pulled.
func (s *server) attested(t *testing.T, repository string, d godigest.Digest) []ocispec.Descriptor {
	t.Helper()
	var list ocispec.Index
	until(t, "the image is attested", func() error {
		list = ocispec.Index{}
		a := s.get(t, "/v2/up/"+repository+"/referrers/"+d.String())
		if err := json.Unmarshal(a.body, &list); err != nil {
			return err
		}
		if len(list.Manifests) < 5 {
			return fmt.Errorf("%d referrers", len(list.Manifests))
		}
		return nil
	})
	return list.Manifests
}

// TestAttested: what passed is attested beside the image, and Sluice itself
// trusts it by the key that it publishes.
func TestAttested(t *testing.T) {
	t.Parallel()
	u, key := newUpstream(t), signtest.NewKey(t, "p256")
	d := u.push(t, "app", "1", alpineImage(t, noisy))
	s := attesting(t, u, key)
	if a := s.get(t, "/v2/up/app/manifests/1"); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	for _, r := range s.attested(t, "app", d) {
		if a := s.get(t, "/v2/up/app/manifests/"+r.Digest.String()); a.status != http.StatusOK || godigest.FromBytes(a.body) != r.Digest {
			t.Errorf("%s: %d", r.Digest, a.status)
		}
	}
	a := s.get(t, "/.well-known/sluice/keys")
	var published struct {
		Keys []struct {
			ID, PEM string
			Signs   bool
		}
	}
	if err := json.Unmarshal(a.body, &published); err != nil || len(published.Keys) != 1 || published.Keys[0].PEM != string(key.PEM) || !published.Keys[0].Signs {
		t.Fatalf("keys %s (%v)", a.body, err)
	}
	tag := strings.Replace(d.String(), ":", "-", 1) + ".att"
	if a = s.get(t, "/v2/_attest/up/app/manifests/"+tag); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a = ask(t, http.MethodPut, "http://"+s.registry+"/v2/_attest/up/app/manifests/"+tag, a.body, "Content-Type: "+ocispec.MediaTypeImageManifest); a.status != http.StatusMethodNotAllowed {
		t.Errorf("a client pushed an attestation: %d %s", a.status, a.body)
	}
	if a = s.get(t, "/v2/_catalog"); strings.Contains(string(a.body), "_attest") {
		t.Errorf("catalog %s", a.body)
	}
	reference := s.registry + "/up/app@" + d.String()
	for _, tt := range []struct {
		key  []byte
		code int
	}{{[]byte(published.Keys[0].PEM), 0}, {signtest.NewKey(t, "p256").PEM, 1}} {
		if out, code := sluice(t, "policy", "explain", reference, "--policy", signedPolicy(t, tt.key), "--data", t.TempDir()); code != tt.code {
			t.Errorf("exit %d, want %d\n%s", code, tt.code, out)
		}
	}
}

// foreign is a command line of others, with a home of its own.
type foreign struct{ path, home string }

// others finds one, or ends the test.
func others(t *testing.T, name string) foreign {
	t.Helper()
	return foreign{tool(t, name), t.TempDir()}
}

// run runs the command with more variables. Only its exit status counts: what
// cosign prints does not always hold.
func (f foreign) run(t *testing.T, env []string, args ...string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, f.path, args...)
	cmd.Dir = f.home
	cmd.Env = append([]string{"HOME=" + f.home, "XDG_CONFIG_HOME=" + f.home, "PATH=" + os.Getenv("PATH"), "COSIGN_PASSWORD=", "COSIGN_YES=true"}, env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", filepath.Base(f.path), strings.Join(args, " "), err, out)
	}
	return nil
}

// TestCosign: cosign verifies what Sluice attested, through Sluice and in both of
// its formats; Sluice lets pass what cosign signed; both refuse another key.
func TestCosign(t *testing.T) {
	t.Parallel()
	cosign := others(t, "cosign")
	u, key := newUpstream(t), signtest.NewKey(t, "p256")
	d := u.push(t, "app", "1", alpineImage(t, noisy))
	s := attesting(t, u, key)
	if a := s.get(t, "/v2/up/app/manifests/1"); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	s.attested(t, "app", d)
	ours, other := filepath.Join(cosign.home, "ours.pub"), filepath.Join(cosign.home, "other.pub")
	write(t, ours, key.PEM)
	write(t, other, signtest.NewKey(t, "p256").PEM)
	reference := s.registry + "/up/app@" + d.String()
	side := []string{"COSIGN_REPOSITORY=" + s.registry + "/_attest/up/app"}
	for _, command := range []struct {
		env  []string
		args []string
	}{
		{nil, []string{"verify"}},
		{nil, []string{"verify-attestation", "--type", "vuln"}},
		{nil, []string{"verify-attestation", "--type", "cyclonedx"}},
		{nil, []string{"verify-attestation", "--type", "https://slsa.dev/verification_summary/v1"}},
		{side, []string{"verify", "--new-bundle-format=false"}},
		{side, []string{"verify-attestation", "--new-bundle-format=false", "--type", "vuln"}},
		{side, []string{"verify-attestation", "--new-bundle-format=false", "--type", "cyclonedx"}},
	} {
		if err := cosign.run(t, command.env, append(command.args, "--insecure-ignore-tlog", "--key", ours, reference)...); err != nil {
			t.Error(err)
		}
		if cosign.run(t, command.env, append(command.args, "--insecure-ignore-tlog", "--key", other, reference)...) == nil {
			t.Errorf("cosign %v passes with another key", command.args)
		}
	}

	// The other way round.
	if err := cosign.run(t, nil, "generate-key-pair"); err != nil {
		t.Fatal(err)
	}
	signer := must(os.ReadFile(filepath.Join(cosign.home, "cosign.pub")))(t)
	gated := start(t, options{upstream: u.URL, advisories: smallFeed(t), config: "policy: {file: " + signedPolicy(t, signer) + "}\n"})
	for repository, format := range map[string]string{"bundle": "--new-bundle-format=true", "legacy": "--new-bundle-format=false"} {
		d := u.push(t, repository, "signed", alpineImage(t, clean))
		u.push(t, repository, "unsigned", alpineImage(t, noisy))
		if err := cosign.run(t, nil, "sign", "--use-signing-config=false", "--tlog-upload=false", format, "--key", "cosign.key", u.reference(repository, d)); err != nil {
			t.Fatal(err)
		}
		gated.wantSigned(t, repository)
	}
}

// reference is how clients of others name an image of the upstream.
func (u *upstream) reference(repository string, d godigest.Digest) string {
	return strings.TrimPrefix(u.URL, "http://") + "/" + repository + "@" + d.String()
}

// wantSigned demands that the repository's tag signed passes, and unsigned does
// not.
func (s *server) wantSigned(t *testing.T, repository string) {
	t.Helper()
	for tag, status := range map[string]int{"signed": http.StatusOK, "unsigned": http.StatusForbidden} {
		if a := s.get(t, "/v2/up/"+repository+"/manifests/"+tag); a.status != status {
			t.Errorf("%s:%s: %d %s", repository, tag, a.status, a.body)
		}
	}
}

// byStore is a policy that demands a signature of the Notary Project by a
// certificate of the authority in ca.crt, which lies beside it.
const byStore = `version: 1
stores:
  - {name: acme, type: notation, ca: ca.crt, revocation: skip}
policies:
  - name: signed
    images: ["**"]
    rules: []
    trust:
      authorities: [{name: corp, notation: {store: acme, identities: ["x509.subject: %s"]}}]
`

// TestNotation: Sluice lets pass what notation signed, and nothing else.
func TestNotation(t *testing.T) {
	t.Parallel()
	notation, u := others(t, "notation"), newUpstream(t)
	if err := notation.run(t, nil, "cert", "generate-test", "--default", "acme.example"); err != nil {
		t.Fatal(err)
	}
	policy := policyFile(t, fmt.Sprintf(byStore, "CN=acme.example, O=Notary"))
	write(t, filepath.Join(filepath.Dir(policy), "ca.crt"), must(os.ReadFile(filepath.Join(notation.home, "notation", "localkeys", "acme.example.crt")))(t))
	s := start(t, options{upstream: u.URL, advisories: smallFeed(t), config: "policy: {file: " + policy + "}\n"})
	for _, format := range []string{"jws", "cose"} {
		d := u.push(t, format, "signed", alpineImage(t, clean))
		u.push(t, format, "unsigned", alpineImage(t, noisy))
		if err := notation.run(t, nil, "sign", "--insecure-registry", "--signature-format", format, u.reference(format, d)); err != nil {
			t.Fatal(err)
		}
		s.wantSigned(t, format)
	}
}

// TestSignedPush: an image that is pushed without the signature it needs is in
// quarantine until somebody signs it.
func TestSignedPush(t *testing.T) {
	t.Parallel()
	key := signtest.NewKey(t, "p256")
	s := gated(t, newUpstream(t), "policy: {file: "+signedPolicy(t, key.PEM)+"}\n")
	d := s.wantPush(t, "alice", "local/quarantine/app", "1", alpineImage(t, clean))
	s.pulls(t, "local/quarantine/app", "1", map[string]int{"alice": http.StatusOK, "node": http.StatusForbidden})
	a := s.get(t, "/v2/local/quarantine/app/manifests/1", as("node"))
	if _, message := a.refused(t); !strings.Contains(message, "not signed by signer") {
		t.Errorf("message %q", message)
	}
	l := key.Legacy(t, "local/quarantine/app", d)
	raw := must(json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: godigest.FromString("{}"), Size: 2},
		Layers: []ocispec.Descriptor{{MediaType: l.MediaType, Digest: godigest.FromBytes(l.Data), Size: int64(len(l.Data)), Annotations: l.Annotations}},
	}))(t)
	for _, b := range [][]byte{[]byte("{}"), l.Data} {
		if a := s.send(t, http.MethodPost, "/v2/local/quarantine/app/blobs/uploads/?digest="+godigest.FromBytes(b).String(), b, as("alice"), "Content-Type: application/octet-stream"); a.status != http.StatusCreated {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	a = s.send(t, http.MethodPut, "/v2/local/quarantine/app/manifests/"+strings.Replace(d.String(), ":", "-", 1)+".sig", raw, as("alice"), "Content-Type: "+ocispec.MediaTypeImageManifest)
	if a.status != http.StatusCreated {
		t.Fatalf("%d %s", a.status, a.body)
	}
	s.pulls(t, "local/quarantine/app", "1", map[string]int{"alice": http.StatusOK, "node": http.StatusOK})
}

// TestCosignReleasesFromQuarantine: an image that was pushed without the
// signature that the policy demands is its pusher's only, until cosign signs it,
// in either of its formats. Another's signature changes nothing. Nothing is
// started anew.
func TestCosignReleasesFromQuarantine(t *testing.T) {
	t.Parallel()
	cosign := others(t, "cosign")
	for _, name := range []string{"cosign", "stranger"} {
		if err := cosign.run(t, nil, "generate-key-pair", "--output-key-prefix", name); err != nil {
			t.Fatal(err)
		}
	}
	signer := must(os.ReadFile(filepath.Join(cosign.home, "cosign.pub")))(t)
	s := gated(t, newUpstream(t), "policy: {file: "+signedPolicy(t, signer)+"}\n")
	m := newMachine(t)
	if out, err := pushers()[0].login(t, m, s.registry, "alice", passwordOf("alice")); err != nil {
		t.Fatalf("login: %v\n%s", err, out)
	}
	for format, flag := range map[string]string{"bundle": "--new-bundle-format=true", "legacy": "--new-bundle-format=false"} {
		for _, multi := range []bool{false, true} {
			name := fmt.Sprintf("local/quarantine/%s-%v", format, multi)
			img := image(t, "amd64", layerText(t, name))
			d := s.wantPush(t, "alice", name, "1", img).String()
			signed := d
			if multi { // the signature of an index is that of what it lists
				other := image(t, "arm64", layerText(t, name+" on arm64"))
				s.wantPush(t, "alice", name, "2", other)
				both := index(img, other)
				if a := s.putManifest(t, "alice", name, "both", both); a.status != http.StatusCreated {
					t.Fatalf("%s: push of the index: %d %s", name, a.status, a.body)
				}
				signed = must(both.Digest())(t).String()
			}
			layer := must(must(img.Layers())(t)[0].Digest())(t).String()
			pulls := func(when string, status int) {
				t.Helper()
				for _, reference := range []string{"1", d} {
					s.pulls(t, name, reference, map[string]int{"alice": http.StatusOK, "node": status})
				}
				a := s.get(t, "/v2/"+name+"/blobs/"+layer, as("node"))
				if a.status != status {
					t.Errorf("%s: %s: layer: %d, want %d", name, when, a.status, status)
				}
				if status != http.StatusForbidden {
					return
				}
				if _, message := a.refused(t); !strings.Contains(message, "signed") || !strings.Contains(message, "(verdict ") {
					t.Errorf("%s: %s: message %q", name, when, message)
				}
			}
			sign := func(key string) {
				t.Helper()
				err := cosign.run(t, []string{"DOCKER_CONFIG=" + m.dir}, "sign", "--use-signing-config=false", "--tlog-upload=false", "--allow-insecure-registry",
					flag, "--key", key, s.registry+"/"+name+"@"+signed)
				if err != nil {
					t.Fatal(err)
				}
			}
			pulls("unsigned", http.StatusForbidden)
			sign("stranger.key")
			pulls("signed by a stranger", http.StatusForbidden)
			sign("cosign.key")
			pulls("signed", http.StatusOK)
		}
	}
}
