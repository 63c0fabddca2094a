package secret

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestFiles has a file with something in it, and one without, for each rule.
func TestFiles(t *testing.T) {
	auth := base64.StdEncoding.EncodeToString([]byte("robot:Tr0ub4dor&3"))
	const sha512 = "$6$rounds=5000$J7gK9sQ2$kq1XvTq9v0mZk3hYb8c5s2d7f6g1h4j9k0l3z6x8c5v2b7n1m4q9w0e3r6t8y5u2i7o1p4a9s0d3f6g8h5j2k7l1z4x9"
	for _, tt := range []struct {
		path, with, without string
		want                string
	}{
		{"app/.env", "DEBUG=1\nDB_PASSWORD=hunter2again\n", "DEBUG=1\nDB_PASSWORD=\nDB_PASSWORD=changeme\nSECRET_FILE=/run/x\nTOKEN=${TOKEN}\n", "credentials-file/dotenv@2"},
		{"app/.env.production", "export API_KEY=\"8f2b1c9d7e\"\n", "API_KEY=<your key>\n", "credentials-file/dotenv@1"},
		{"root/.kube/config", "users:\n- user:\n    client-key-data: LS0tLS1CRUdJTg==\n", "users:\n- user:\n    client-key: /run/key.pem\n", "credentials-file/kubeconfig@3"},
		{"etc/kubernetes/admin.conf", "    token: abcdef.0f3k1j8d7s6a5q4w\n", "    tokenFile: /run/token\n", "credentials-file/kubeconfig@1"},
		{"root/.docker/config.json", `{"auths":{"ghcr.io":{"auth":"` + auth + `"}}}`, `{"auths":{"ghcr.io":{}},"credsStore":"pass"}`, "credentials-file/docker-config@1"},
		{"root/.dockercfg", `{"ghcr.io":{"auth":"` + auth + `"}}`, `{}`, "credentials-file/docker-config@1"},
		{"root/.netrc", "machine x login y password s3cr3tpw\n", "machine x login y\n", "credentials-file/netrc@1"},
		{"etc/apt/auth.conf.d/x.conf", "machine x login y password s3cr3tpw\n", "# password none\n", "credentials-file/apt-auth@1"},
		{"root/.npmrc", "//r/:_authToken=9f8e7d6c-1234\n", "//r/:_authToken=${NPM_TOKEN}\nregistry=https://r/\n", "credentials-file/npmrc@1"},
		{"root/.yarnrc.yml", "npmAuthToken: 9f8e7d6c\n", "npmAuthToken: ${NPM_TOKEN}\n", "credentials-file/yarnrc@1"},
		{"root/.pypirc", "[pypi]\npassword = hunter2again\n", "[pypi]\nusername = x\n", "credentials-file/pypirc@2"},
		{"etc/pip.conf", "index-url = https://bob:hunter2again@pypi.acme/simple\n", "index-url = https://pypi.acme/simple\n", "credentials-file/pip-config@1"},
		{"root/.git-credentials", "https://bob:hunter2again@git.acme\n", "https://git.acme\n", "credentials-file/git-credentials@1"},
		{"src/.git/config", "url = https://x:hunter2again@git.acme/x.git\n", "url = git@git.acme:x.git\n", "credentials-file/git-config@1"},
		{"root/.config/gh/hosts.yml", "github.com:\n  oauth_token: 9f8e7d6c5b4a\n", "github.com:\n  user: x\n", "credentials-file/gh-config@2"},
		{"root/.pgpass", "db:5432:*:app:hunter2again\n", "# host:port:db:user:password\n", "credentials-file/pgpass@1"},
		{"root/.my.cnf", "[client]\npassword=hunter2again\n", "[client]\n#password=x\n", "credentials-file/mysql-config@2"},
		{"root/.aws/credentials", "aws_secret_access_key = x7Rk2Lm9Qp4Tz8Vb1Nc6\n", "aws_access_key_id = x\n", "credentials-file/aws-credentials@1"},
		{"root/.config/gcloud/application_default_credentials.json", `{"refresh_token": "1//0abcdefg"}`, `{"type": "external_account"}`, "credentials-file/gcloud-credentials@1"},
		{"root/.azure/accessTokens.json", `[{"refreshToken": "0.AXoAq9"}]`, `[]`, "credentials-file/azure-credentials@1"},
		{"root/.m2/settings.xml", "<password>hunter2again</password>", "<password>${env.PW}</password><password>{enc=}</password>", "credentials-file/maven-settings@1"},
		{"root/.gradle/gradle.properties", "repoPassword=hunter2again\n", "org.gradle.daemon=true\n", "credentials-file/gradle-properties@1"},
		{"app/nuget.config", `<add key="ClearTextPassword" value="hunter2again" />`, `<add key="ClearTextPassword" value="%PW%" />`[:20], "credentials-file/nuget-config@1"},
		{"root/.composer/auth.json", `{"github-oauth": {"github.com": "9f8e7d6c5b"}}`, `{}`, "credentials-file/composer-auth@1"},
		{"root/.gem/credentials", ":rubygems_api_key: 9f8e7d6c5b\n", "---\n", "credentials-file/gem-credentials@1"},
		{"root/.cargo/credentials.toml", "[registry]\ntoken = \"9f8e7d6c5b\"\n", "[registry]\n", "credentials-file/cargo-credentials@2"},
		{"root/.terraform.d/credentials.tfrc.json", `{"credentials":{"app":{"token": "9f8e7d6c5b"}}}`, `{"credentials":{}}`, "credentials-file/terraform-credentials@1"},
		{"infra/terraform.tfstate", `{"resources": [{"type":"x"}]}`, `{"resources": []}`, "credentials-file/terraform-state@1"},
		{"root/.vault-token", "hvs-like-0123-9876-abcd\n", "\n", "credentials-file/vault-token-file@1"},
		{"root/.config/rclone/rclone.conf", "[x]\npass = 9f8e7d6c5b\n", "[x]\ntype = s3\n", "credentials-file/rclone-config@2"},
		{"app/config/master.key", "0f1e2d3c4b5a69788796a5b4c3d2e1f0", "none\n", "credentials-file/rails-master-key@1"},
		{"etc/NetworkManager/system-connections/wifi", "[wifi-security]\npsk=hunter2again\n", "[wifi]\nssid=x\n", "credentials-file/wifi-password@2"},
		{"etc/ppp/chap-secrets", "# comment line here x\nbob * hunter2again *\n", "# Secrets for authentication using CHAP\n# client\tserver\tsecret\tIP addresses\n", "credentials-file/chap-secrets@2"},
		{"root/.ssh/authorized_keys", "# me\nssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ me\n", "# none\n", "credentials-file/ssh-authorized-keys@2"},
		{"etc/shadow", "root:*:19000:0:99999:7:::\nbob:" + sha512 + ":19000:0:::\n", "root:*:19000:0:99999:7:::\nbin:!:19000::::::\nx:!!:1::::::\ny::0:::::\n", "credentials-file/shadow@2"},
		{"etc/nginx/.htpasswd", "bob:$apr1$9a8b7c6d$0f1e2d3c4b5a69788796a5\n", "# none\n", "credentials-file/htpasswd@1"},
		{"var/www/wp-config.php", "define( 'DB_PASSWORD', 'hunter2again' );", "define( 'DB_PASSWORD', getenv('PW') );", "password/wordpress-config@1"},
		{"root/.gnupg/private-keys-v1.d/0A.key", "Created: 20261123T155400\nKey: (private-key (ecc (curve Ed25519)(d #00#)))\n", "Key: (public-key (ecc))\n", "private-key/gnupg-private-key@2"},
		{"home/x/private-keys-v1.d/0B.key", "Key: (protected-private-key (ecc (curve Ed25519)))\n", "Key: (public-key (ecc))\n", "encrypted-private-key/gnupg-private-key-encrypted@1"},
		{"root/.bash_history", "ls\n", "\n", "history-file/shell-history@1"},
	} {
		t.Run(tt.path, func(t *testing.T) {
			said := func(p, text string) string {
				var out []string
				for _, s := range scan(p, text) {
					out = append(out, fmt.Sprintf("%s/%s@%d", s.Kind, s.Rule, s.Line))
					for _, v := range []string{"hunter2again", auth, sha512[:20]} {
						if strings.Contains(s.Excerpt, v) {
							t.Errorf("excerpt %q", s.Excerpt)
						}
					}
				}
				return strings.Join(out, " ")
			}
			if got := said(tt.path, tt.with); got != tt.want {
				t.Errorf("found %q, want %q", got, tt.want)
			}
			if got := said(tt.path, tt.without); got != "" {
				t.Errorf("without a value: found %q", got)
			}
			if got := said("srv/data.txt", tt.with); got != "" {
				t.Errorf("under another name: found %q", got)
			}
			if got := said("usr/lib/tests/"+tt.path, tt.with); got != "" {
				t.Errorf("in a test suite: found %q", got)
			}
		})
	}
	if got := scan("app/.env.example", "DB_PASSWORD=hunter2again\n"); len(got) > 0 {
		t.Errorf("an example: %+v", got)
	}
}

// certificateFor makes a self-signed certificate and its key.
func certificateFor(t testing.TB, template x509.Certificate) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(0x1122334455667788)
	template.NotAfter = time.Date(2025, 1, 2, 0, 0, 0, 0, time.UTC)
	if cert, err = x509.CreateCertificate(rand.Reader, &template, &template, &k.PublicKey, k); err != nil {
		t.Fatal(err)
	}
	if key, err = x509.MarshalPKCS8PrivateKey(k); err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func TestCertificates(t *testing.T) {
	armor := func(template x509.Certificate) string {
		der, _ := certificateFor(t, template)
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	client := armor(x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	server := armor(x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}})
	ca := armor(x509.Certificate{IsCA: true, BasicConstraintsValid: true})
	for _, tt := range []struct{ name, path, text, want string }{
		{"client", "etc/app/client.pem", "# x\n" + client, "client-certificate@2"},
		{"server with its chain", "etc/app/tls.crt", server + ca, "server-certificate@1"},
		{"authority", "usr/local/share/ca-certificates/acme.crt", ca, "ca-certificate@1"},
		{"anchor", "etc/pki/ca-trust/source/anchors/acme.pem", ca, "ca-certificate@1"},
		{"distribution", "etc/ssl/certs/x.pem", ca, ""},
		{"library", "app/node_modules/x/ca.pem", ca, ""},
		{"bundle", "app/bundle.pem", strings.Repeat(ca, maxCertificates+1), ""},
		{"not one", "app/x.pem", strings.Replace(ca, "MI", "MX", 1), ""},
	} {
		got := ""
		for _, s := range scan(tt.path, tt.text) {
			got += fmt.Sprintf("%s@%d", s.Rule, s.Line)
			if s.Kind != "certificate" || !s.NotAfter.Equal(time.Date(2025, 1, 2, 0, 0, 0, 0, time.UTC)) {
				t.Errorf("%s: %+v", tt.name, s)
			}
		}
		if got != tt.want {
			t.Errorf("%s: found %q, want %q", tt.name, got, tt.want)
		}
	}
}

// javaStore builds a JKS store with entries of the tags.
func javaStore(tags ...uint32) []byte {
	b := append([]byte{}, jksMagic...)
	b = binary.BigEndian.AppendUint32(b, 2)
	b = binary.BigEndian.AppendUint32(b, uint32(len(tags)))
	for _, tag := range tags {
		b = binary.BigEndian.AppendUint32(b, tag)
		b = append(b, 0, 1, 'a')
		b = append(b, make([]byte, 8)...)
		b = append(b, 0, 5)
		b = append(b, "X.509"...)
		b = append(b, 0, 0, 0, 3, 1, 2, 3)
	}
	return append(b, make([]byte, 20)...)
}

func TestKeystore(t *testing.T) {
	_, pkcs8 := certificateFor(t, x509.Certificate{})
	p12 := append([]byte{0x30, 0x82, 0x01, 0x00, 0x02, 0x01, 0x03}, shroudedKeyBag...)
	for _, tt := range []struct {
		name, path string
		b          []byte
		want       string
	}{
		{"java", "app/x.jks", javaStore(2, 1), "keystore/java-keystore"},
		{"java certificates", "etc/ssl/certs/java/cacerts", javaStore(2, 2, 2), ""},
		{"java cut", "app/x.jks", javaStore(2, 2)[:30], "keystore/java-keystore"},
		{"pkcs12", "app/x.p12", p12, "keystore/pkcs12-keystore"},
		{"pkcs12 certificates", "app/x.p12", bytes.Replace(p12, []byte{0x0a, 0x01, 0x02}, []byte{0x0a, 0x01, 0x03}, 1), ""},
		{"keytab", "etc/krb5.keytab", append([]byte{5, 2, 0, 0, 0, 60}, make([]byte, 60)...), "keystore/kerberos-keytab"},
		{"empty keytab", "etc/krb5.keytab", []byte{5, 2}, ""},
		{"keepass", "root/x.kdbx", append(bytes.Clone(kdbxMagic), 0, 1), "keystore/keepass-database"},
		{"der", "etc/x.der", pkcs8, "private-key/der-private-key"},
		{"der of something else", "etc/x.der", []byte{0x30, 3, 2, 1, 0}, ""},
		{"pgp", "root/x.gpg", append([]byte{0x95, 0x03, 0x98, 4}, make([]byte, 100)...), "private-key/pgp-private-key"},
		{"gnupg agent", "root/.gnupg/private-keys-v1.d/A.key", []byte("(11:private-key(3:rsa(1:n257:\x00"), "private-key/gnupg-private-key"},
		{"test suite", "usr/lib/x/tests/x.jks", javaStore(1), ""},
		{"image", "app/x.png", []byte("\x89PNG\x00"), ""},
	} {
		got := ""
		if WantsBinary(tt.path, tt.b[:min(len(tt.b), 4096)], int64(len(tt.b))) {
			for _, s := range Keystore(tt.path, tt.b) {
				got += s.Kind + "/" + s.Rule
			}
		}
		if got != tt.want {
			t.Errorf("%s: found %q, want %q", tt.name, got, tt.want)
		}
	}
}

func FuzzKeystore(f *testing.F) {
	f.Add("x.jks", javaStore(2, 1))
	f.Add("x.p12", append([]byte{0x30}, keyBag...))
	f.Add("x.gpg", append([]byte{0x95, 0x03, 0x98, 4}, make([]byte, 100)...))
	f.Add("x.keytab", []byte{5, 2})
	f.Fuzz(func(t *testing.T, p string, b []byte) {
		for _, s := range Keystore(p, b) {
			if s.Kind == "" || s.Path != p {
				t.Errorf("%+v", s)
			}
		}
	})
}

func TestConfig(t *testing.T) {
	token := githubToken("ghp_", "zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ")
	img := ocispec.Image{
		Config: ocispec.ImageConfig{
			Env: []string{
				"PATH=/usr/bin", "GPG_KEY=A035C8C19219BA821ECEA86B64E628F8D684696D", "GH=" + token, "DB_PASSWORD=hunter2again",
				"DB_PASSWORD_FILE=/run/secrets/db", "JWT_SECRET=changeme", "TOKENIZERS_PARALLELISM=false", "SECRET_NAME=my-secret-x", "API_TOKEN=$TOKEN",
			},
			Labels:     map[string]string{"maintainer": "x", "build.url": "https://ci:s3cr3tpw@ci.acme/1"},
			Entrypoint: []string{"/app"},
			Cmd:        []string{"--token", githubToken("gho_", strings.Repeat("Zz9", 10))},
		},
		History: []ocispec.History{
			{CreatedBy: "ENV DB_PASSWORD=hunter2again"}, // reported for Env
			{CreatedBy: "RUN |2 NPM_TOKEN=0f1e2d3c-4b5a VERSION=1.2 /bin/sh -c npm ci # buildkit"},
			{CreatedBy: "RUN /bin/sh -c TOKEN=$(cat /run/secrets/x) make"},
			{CreatedBy: "ARG PASSWORD=correct-horse"},
		},
	}
	b, err := json.Marshal(img)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range Config(b) {
		got = append(got, s.Kind+"/"+s.Rule+" "+s.Path)
		if s.Line != 1 || len(s.Excerpt) > 8+len("…") || strings.Contains(s.Excerpt, "hunter2") {
			t.Errorf("%+v", s)
		}
	}
	want := []string{
		"vcs-token/github-token config:env/GH", "password/image-env config:env/DB_PASSWORD", "password/url-password config:label/build.url",
		"vcs-token/github-token config:cmd", "password/build-argument config:history/2", "password/build-argument config:history/4",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("found (-want +got):\n%s", d)
	}
	if got := Config([]byte("{")); got != nil {
		t.Errorf("no config: %+v", got)
	}
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte(`{"config":{"Env":["A_TOKEN=abc12345x"],"Labels":{"a":"b"}},"history":[{"created_by":"RUN |1 A=b c"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, s := range Config(b) {
			if s.Kind == "" || !strings.HasPrefix(s.Path, "config:") {
				t.Errorf("%+v", s)
			}
		}
	})
}
