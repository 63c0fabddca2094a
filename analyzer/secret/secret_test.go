package secret

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluiceproxy/sluice/analyzer"
)

// keys are real ones, made for each run: none is in the repository.
func keys(t testing.TB) map[string]string {
	t.Helper()
	must := func(b []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	e, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block := func(label string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der}))
	}
	ssh := func(cipher string) []byte {
		b := append([]byte("openssh-key-v1\x00\x00\x00\x00"), byte(len(cipher)))
		return append(append(b, cipher...), make([]byte, 200)...)
	}
	return map[string]string{
		"rsa":         block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(r)),
		"ec":          block("EC PRIVATE KEY", must(x509.MarshalECPrivateKey(e))),
		"pkcs8":       block("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(ed))),
		"openssh":     block("OPENSSH PRIVATE KEY", ssh("none")),
		"openssh-enc": block("OPENSSH PRIVATE KEY", ssh("aes256-ctr")),
		"pgp":         "-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: x\n\n" + base64.StdEncoding.EncodeToString(append([]byte{0x95, 0x01}, make([]byte, 60)...)) + "\n=abcd\n-----END PGP PRIVATE KEY BLOCK-----\n",
		"legacy-enc": string(pem.EncodeToMemory(&pem.Block{
			Type: "RSA PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-128-CBC,00"}, Bytes: make([]byte, 64),
		})),
	}
}

// githubToken makes a token with a true checksum.
func githubToken(prefix, random string) string {
	crc, sum := crc32.ChecksumIEEE([]byte(random)), ""
	for range 6 {
		sum = string(base62[crc%62]) + sum
		crc /= 62
	}
	return prefix + random + sum
}

func scan(p, text string) []analyzer.Secret {
	s := NewScanner()
	s.Reset(p, Everything)
	return s.Whole([]byte(text))
}

func TestScan(t *testing.T) {
	k := keys(t)
	jsonKey, err := json.Marshal(map[string]string{"private_key": k["pkcs8"]})
	if err != nil {
		t.Fatal(err)
	}
	token := githubToken("ghp_", "zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ")
	if token != "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" { // GitHub's published example
		t.Fatalf("checksum: %s", token)
	}
	const id, key = "AKIAQ3EGRT5WXZ2MPLKJ", "x7Rk2Lm9Qp4Tz8Vb1Nc6Hd3Jf5Gs0Wa+Ye/UiOoP"
	pat := "github_pat_11ABQX7VY0kR2mZpW9tLcs_" + strings.Repeat("aB3dE5gH7j", 6)[:59]
	for _, tt := range []struct {
		name, text string
		want       []string // kind/rule@line
	}{
		{"rsa", "# key\n" + k["rsa"], []string{"private-key/pem-private-key@2"}},
		{"ec", k["ec"], []string{"private-key/pem-private-key@1"}},
		{"pkcs8", k["pkcs8"], []string{"private-key/pem-private-key@1"}},
		{"openssh", k["openssh"], []string{"private-key/pem-private-key@1"}},
		{"openssh under a passphrase", k["openssh-enc"], []string{"encrypted-private-key/pem-private-key-encrypted@1"}},
		{"pgp", k["pgp"], []string{"private-key/pem-private-key@1"}},
		{"legacy encryption", k["legacy-enc"], []string{"encrypted-private-key/pem-private-key-encrypted@1"}},
		{"windows line ends", strings.ReplaceAll(k["rsa"], "\n", "\r\n"), []string{"private-key/pem-private-key@1"}},
		{"in JSON", string(jsonKey), []string{"private-key/pem-private-key@1"}},
		{"indented in YAML", "key: |\n  " + strings.ReplaceAll(k["ec"], "\n", "\n  "), []string{"private-key/pem-private-key@2"}},
		{"two keys", k["ec"] + k["rsa"], []string{"private-key/pem-private-key@1", "private-key/pem-private-key@6"}},
		{"certificate", strings.ReplaceAll(k["rsa"], "RSA PRIVATE KEY", "CERTIFICATE"), nil},
		{"public key", strings.ReplaceAll(k["rsa"], "RSA PRIVATE KEY", "PUBLIC KEY"), nil},
		{"placeholder", "-----BEGIN RSA PRIVATE KEY-----\nMIIE...snip...\n-----END RSA PRIVATE KEY-----\n", nil},
		{"body is not a key", "-----BEGIN RSA PRIVATE KEY-----\n" + base64.StdEncoding.EncodeToString(make([]byte, 64)) + "\n-----END RSA PRIVATE KEY-----\n", nil},
		{"without an end", strings.Split(k["rsa"], "-----END")[0], nil},
		{"end of another label", strings.Replace(k["rsa"], "END RSA", "END EC", 1), nil},
		{"github", "token=" + token + "\n", []string{"vcs-token/github-token@1"}},
		{"github app", "\n\n" + githubToken("ghs_", strings.Repeat("Ab1", 10)), []string{"vcs-token/github-token@3"}},
		{"github without its checksum", "ghp_" + strings.Repeat("x", 36), nil},
		{"github within a word", "x" + token, nil},
		{"github longer", token + "a", nil},
		{"github fine-grained", pat, []string{"vcs-token/github-fine-grained-token@1"}},
		{"github fine-grained placeholder", "github_pat_" + strings.Repeat("x", 22) + "_" + strings.Repeat("x", 59), nil},
		{"aws", "[default]\naws_access_key_id = " + id + "\naws_secret_access_key = " + key + "\n", []string{"cloud-token/aws-access-key@2"}},
		{"aws secret first", "SECRET=" + key + " ID=" + id, []string{"cloud-token/aws-access-key@1"}},
		{"aws id alone", "aws_access_key_id = " + id, nil},
		{"aws far apart", id + strings.Repeat("\n", near+1) + key, nil},
		{"aws and a commit", id + " 0123456789abcdef0123456789abcdef01234567", nil},
		{"aws example", "AKIAIOSFODNN7EXAMPLE wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, s := range scan("etc/x", tt.text) {
				got = append(got, fmt.Sprintf("%s/%s@%d", s.Kind, s.Rule, s.Line))
				if s.Path != "etc/x" {
					t.Errorf("path = %q", s.Path)
				}
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("found (-want +got):\n%s", d)
			}
		})
	}
}

// TestExcerpt looks for a value's characters beyond the first eight.
func TestExcerpt(t *testing.T) {
	token := githubToken("ghp_", "zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ")
	found := scan("p", token)
	if len(found) != 1 || strings.Contains(found[0].Excerpt, token[:9]) {
		t.Errorf("excerpt shows too much: %+v", found)
	}
	key := keys(t)["rsa"]
	body := strings.Split(key, "\n")[1]
	found = scan("p", key)
	if len(found) != 1 || strings.Contains(found[0].Excerpt, body[:9]) {
		t.Errorf("excerpt shows too much: %+v", found)
	}
}

// TestPieces checks that how a file is cut does not change what is found.
func TestPieces(t *testing.T) {
	k := keys(t)
	var text bytes.Buffer
	for i := 0; text.Len() < 3*window; i++ {
		fmt.Fprintf(&text, "%s\n%s", strings.Repeat("line of text\n", 2000+i*37), k["ec"])
	}
	fmt.Fprintf(&text, "%s\n", k["rsa"])
	want := scan("p", text.String())
	if len(want) < 20 {
		t.Fatalf("only %d found at once", len(want))
	}
	s := NewScanner()
	for _, size := range []int{1 << 10, 4<<10 + 1, window - 1, window, window + 1, text.Len()} {
		s.Reset("p", Everything)
		for b := text.Bytes(); len(b) > 0; {
			n := min(size, len(b))
			if _, err := s.Write(b[:n]); err != nil {
				t.Fatal(err)
			}
			b = b[n:]
		}
		if d := cmp.Diff(want, s.Close()); d != "" {
			t.Errorf("pieces of %d bytes (-want +got):\n%s", size, d)
		}
	}
}

func TestDepthOf(t *testing.T) {
	text, elf, other := []byte("text"), []byte("\x7fELF\x00"), []byte("\x00\x01")
	for _, tt := range []struct {
		path string
		head []byte
		want Depth
	}{
		{"usr/share/doc/ssl/key.pem", text, Nothing},
		{"usr/share/man/man1/ssh.1", text, Nothing},
		{"usr/lib/python3.11/test/keycert.pem", text, Nothing},
		{"usr/local/lib/python3.12/test/ssl_key.pem", text, Nothing},
		{"usr/local/go/src/crypto/tls/example.go", text, Nothing},
		{"usr/lib/go-1.19/src/crypto/x.go", text, Nothing},
		{"app/node_modules/x/test/key.pem", text, Nothing},
		{"root/go/pkg/mod/x@v1/testdata/key.pem", text, Nothing},
		{"app/node_modules/x/index.js", text, Proven},
		{"usr/lib/python3/dist-packages/x/settings.py", text, Proven},
		{"app/README.md", text, Proven},
		{"usr/bin/app", elf, Nothing},
		{"usr/local/bin/app", elf, Proven},
		{"root/.pyenv/versions/3.12/lib/python3.12/test/keycert.pem", text, Nothing},
		{"usr/lib/tool/tests/key.pem", text, Nothing},
		{"usr/share/nginx/html/.env", text, Everything},
		{"app/x.png", other, Nothing},
		{"app/test/key.pem", text, Everything},
		{"app/usr/share/doc/key.pem", text, Everything},
		{"root/.ssh/id_rsa", text, Everything},
	} {
		if got := DepthOf(tt.path, tt.head); got != tt.want {
			t.Errorf("DepthOf(%q) = %d, want %d", tt.path, got, tt.want)
		}
	}
}

func FuzzScan(f *testing.F) {
	for _, k := range keys(f) {
		f.Add([]byte(k), 7)
	}
	f.Add([]byte(githubToken("gho_", strings.Repeat("Zz9", 10))), 3)
	f.Add([]byte("-----BEGIN PRIVATE KEY----------END PRIVATE KEY-----"), 1)
	f.Add([]byte("AKIA AKIAAAAAAAAAAAAAAAAA -----BEGIN "), 2)
	paths := []string{"p", "app/.env", "etc/shadow", "root/.docker/config.json", "root/.kube/config", "x/node_modules/y/z.js", "x.tfstate"}
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		p := paths[uint(cut)%uint(len(paths))]
		want := scan(p, string(b))
		s := NewScanner()
		s.Reset(p, Everything)
		cut = max(0, min(cut, len(b)))
		_, _ = s.Write(b[:cut])
		_, _ = s.Write(b[cut:])
		if d := cmp.Diff(want, s.Close()); d != "" {
			t.Errorf("%s cut at %d (-want +got):\n%s", p, cut, d)
		}
	})
}

// TestHostile has text that is made to be slow: the time must grow with its
// length alone.
func TestHostile(t *testing.T) {
	if testing.Short() {
		t.Skip("long under the race detector")
	}
	const size = 512 << 10
	fill := func(s string) string { return strings.Repeat(s, size/len(s)) }
	token := "ghp_" + strings.Repeat("Ab1", 12)
	s := NewScanner()
	for name, text := range map[string]string{
		"keys that do not end": fill("-----BEGIN RSA PRIVATE KEY-----\n"),
		"keys within keys":     fill("-----BEGIN PRIVATE KEY-----\nAAAA") + fill("-----END PRIVATE KEY-----\n"),
		"certificates":         fill("-----BEGIN CERTIFICATE-----\n"),
		"types of web keys":    "{" + fill(`"kty":"EC",`) + `"d":""}`,
		"nested web keys":      fill(`{"kty":`) + "}",
		"web tokens":           fill("eyJ.") + " " + fill("eyJ "),
		"openai":               fill("T3BlbkFJ"),
		"twilio":               fill("wilio AC "),
		"aws":                  fill("AKIAQ3EGRT5WXZ2MPLKJ "),
		"tokens":               fill(token + " "),
		"slack":                fill("hooks.slack.com/services/T"),
		"putty":                fill("PuTTY-User-Key-File-3\nEncryption: "),
		"gitlab":               fill("-glrt-"),
	} {
		for _, p := range []string{"etc/x", "app/.env"} {
			start := time.Now()
			s.Reset(p, Everything)
			s.Whole([]byte(text))
			if d := time.Since(start); d > 5*time.Second { // some 50 ms on an idle machine
				t.Errorf("%s in %s took %s", name, p, d)
			}
		}
	}
}
