package layer

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluiceproxy/sluice/analyzer"
)

// TestFacts checks what the headers say of hardening: the last entry of a path wins.
func TestFacts(t *testing.T) {
	big := strings.Repeat("x", minSize)
	blob := pack(t,
		withMode(dir("tmp"), 0o1777), withMode(dir("data"), 0o777), withMode(dir("was"), 0o777), withMode(dir("was"), 0o755),
		withMode(file("app/open", "x"), 0o666), withMode(file("app/was", "x"), 0o666), withMode(file("app/was", "x"), 0o644),
		withMode(symlink("app/link", "open"), 0o777),
		file("bin/busybox", "x"), symlink("bin/sh", "busybox"), file("app/bash", "x"), file("usr/bin/apt-get", "x"), file("usr/sbin/sshd", "x"),
		file("big", big), file("replaced", big), file("replaced", "y"), file("small", big[1:]))
	l, err := newScanner(t, Options{}).Scan(t.Context(), bytes.NewReader(blob))
	if err != nil {
		t.Fatal(err)
	}
	want := analyzer.LayerFacts{
		WorldWritable: []string{"app/open", "data/"}, Shells: []string{"bin/busybox", "bin/sh"}, PackageManagers: []string{"usr/bin/apt-get"},
		SSH: []string{"usr/sbin/sshd"}, Sizes: map[string]int64{"big": minSize},
	}
	if d := cmp.Diff(want, l.Hardening); d != "" {
		t.Errorf("facts (-want +got):\n%s", d)
	}
}

// TestSecretFiles checks that a scan hands files to the secret scanner as their
// path and first bytes ask for.
func TestSecretFiles(t *testing.T) {
	const hash = "$6$J7gK9sQ2$kq1XvTq9v0mZk3hYb8c5s2d7f6g1h4j9k0l3z6x8c5v2b7n1m4q9w0e3r6t8y5u2"
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	key := string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
	keytab := "\x05\x02\x00\x00\x00\x40" + strings.Repeat("\x00", 64)
	for _, tt := range []struct{ path, content, want string }{
		{"etc/shadow", "root:" + hash + ":19000::::::\n", "secret shadow"},
		{"etc/shadow", "root:*:19000::::::\n", ""},
		{"root/.bash_history", "ls\n", "secret shell-history"},
		{"etc/krb5.keytab", keytab, "secret kerberos-keytab"},
		{"opt/app", "\x7fELF\x02\x00" + key, "secret pem-private-key"},
		{"usr/lib/libx.so", "\x7fELF\x02\x00" + key, ""},
		{"app/big.log", strings.Repeat("x\n", 40<<10) + key, "secret pem-private-key"}, // goes through the streaming scanner
		{"app/logo.png", "\x89PNG\x00" + key, ""},
	} {
		l, err := newScanner(t, Options{MaxMemory: 64 << 10}).Scan(t.Context(), bytes.NewReader(pack(t, file(tt.path, tt.content))))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(said(l), ", "); got != tt.want {
			t.Errorf("%s: says %q, want %q", tt.path, got, tt.want)
		}
	}
}
