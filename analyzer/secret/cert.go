package secret

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"slices"
	"strings"

	"github.com/sluiceproxy/sluice/analyzer"
)

// maxCertificates is how many certificates a file may have that is no bundle of
// authorities: a chain has a handful, the smallest bundles have dozens.
const maxCertificates = 10

// certificate takes notice of the PEM certificate in text[from:to]. Only the first of a file is
// read: it is the file's subject, the others are its chain.
func (s *Scanner) certificate(text []byte, from, to int) {
	s.certs++
	if s.certs > 1 || s.depth < Everything || publicCertificates(s.path) {
		return
	}
	p, _ := pem.Decode(text[from:to])
	if p == nil {
		return
	}
	if cert, err := x509.ParseCertificate(p.Bytes); err == nil {
		s.cert = describe(cert)
		s.cert.Path, s.cert.Line = s.path, 1+s.lines+bytes.Count(text[:from], []byte{'\n'})
	}
}

// describe says what a certificate is for.
func describe(c *x509.Certificate) *analyzer.Secret {
	rule := "certificate"
	switch {
	case c.IsCA:
		rule = "ca-certificate"
	case slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth):
		rule = "server-certificate"
	case slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth):
		rule = "client-certificate"
	}
	serial := base64.RawStdEncoding.EncodeToString(c.SerialNumber.Bytes())
	return &analyzer.Secret{Kind: kindCertificate, Rule: rule, Excerpt: serial[:min(8, len(serial))], NotAfter: c.NotAfter.UTC()}
}

// publicCertificates reports where distributions and their packages keep the
// authorities of the public web, and where libraries keep what they test with.
// What an image's maker adds to the trusted ones goes to usr/local/share/ca-certificates
// or to the anchors of etc/pki, which are not here.
func publicCertificates(p string) bool {
	if strings.Contains(p, "/anchors/") || strings.HasPrefix(p, "usr/local/share/ca-certificates/") {
		return false
	}
	for _, dir := range []string{
		"etc/ssl/certs/", "etc/ssl/cert.pem", "etc/ca-certificates/", "etc/pki/", "etc/ssl1.1/", "etc/libressl/", "usr/share/", "usr/lib/", "usr/lib64/",
		"usr/local/share/", "usr/local/lib/", "usr/local/go/", "usr/libexec/", "var/lib/ca-certificates/", "lib/", "lib64/", "opt/java/", "opt/conda/",
	} {
		if strings.HasPrefix(p, dir) {
			return true
		}
	}
	return library(p)
}

// result puts the findings of a file together.
func (s *Scanner) result() []analyzer.Secret {
	if s.cert != nil && s.certs <= maxCertificates {
		s.found = append(s.found, *s.cert)
	}
	return s.found
}
