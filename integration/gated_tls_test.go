package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	mathbig "math/big"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T, name string) authority {
	t.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	c := &x509.Certificate{
		SerialNumber: mathbig.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der := must(x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key))(t)
	return authority{must(x509.ParseCertificate(der))(t), key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// issue makes a certificate and its key, both PEM. A name with a scheme is a URI,
// others are common names.
func (a authority) issue(t *testing.T, name string, ends time.Time) (cert, key []byte) {
	t.Helper()
	k := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	c := &x509.Certificate{
		SerialNumber: mathbig.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: ends, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	if u, err := url.Parse(name); err == nil && u.Scheme != "" {
		c.Subject, c.URIs = pkix.Name{}, []*url.URL{u}
	}
	der := must(x509.CreateCertificate(rand.Reader, c, a.cert, &k.PublicKey, a.key))(t)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(k))(t)})
}

// TestMutualTLS: who shows a certificate of the clients' authority has its name
// in the rules, everybody else has none, and SIGHUP changes both certificate and
// authority.
func TestMutualTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	servers, clients, others := newAuthority(t, "servers"), newAuthority(t, "clients"), newAuthority(t, "others")
	soon := time.Now().Add(time.Hour)
	cert, key := servers.issue(t, "sluice", soon)
	file := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		write(t, path, data)
		return path
	}
	config := fmt.Sprintf(`tls: {cert: %s, key: %s, clientCA: %s}
auth:
  rules:
    - {who: ['cert:ci', 'cert:spiffe://example.org/ns/prod/*'], may: [push], repositories: ['local/team/**']}
`, file("cert.pem", cert), file("key.pem", key), file("ca.pem", clients.pem))
	s := start(t, options{upstream: newUpstream(t).URL, advisories: smallFeed(t), config: config})

	roots := x509.NewCertPool()
	roots.AddCert(servers.cert)
	// status is that of a POST for an upload; 0 means that there was no connection.
	status := func(change func(*tls.Config), from *authority, name string, ends time.Time) int {
		t.Helper()
		conf := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
		if from != nil {
			shown := must(tls.X509KeyPair(from.issue(t, name, ends)))(t)
			// Whichever authorities the server asks for.
			conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &shown, nil }
		}
		if change != nil {
			change(conf)
		}
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: conf, ForceAttemptHTTP2: true}, Timeout: patience}
		defer client.CloseIdleConnections()
		req := must(http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+s.registry+"/v2/local/team/app/blobs/uploads/", nil))(t)
		resp, err := client.Do(req)
		if err != nil {
			return 0
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Error(err)
		}
		return resp.StatusCode
	}
	for _, tt := range []struct {
		name   string
		change func(*tls.Config)
		from   *authority
		who    string
		ends   time.Time
		want   int
	}{
		{"a common name in the rules", nil, &clients, "ci", soon, http.StatusAccepted},
		{"a URI in the rules", nil, &clients, "spiffe://example.org/ns/prod/sa/push", soon, http.StatusAccepted},
		{"another URI", nil, &clients, "spiffe://example.org/ns/dev/sa/push", soon, http.StatusForbidden},
		{"another name", nil, &clients, "someone", soon, http.StatusForbidden},
		{"no certificate", nil, nil, "", soon, http.StatusUnauthorized},
		{"of another authority", nil, &others, "ci", soon, 0},
		{"of the servers' authority", nil, &servers, "ci", soon, 0},
		{"expired", nil, &clients, "ci", time.Now().Add(-time.Hour), 0},
		{"TLS 1.1", func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, &clients, "ci", soon, 0},
	} {
		if got := status(tt.change, tt.from, tt.who, tt.ends); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}

	// Both certificates are exchanged while the server runs.
	newServers := newAuthority(t, "new servers")
	cert, key = newServers.issue(t, "sluice", soon)
	file("cert.pem", cert)
	file("key.pem", key)
	file("ca.pem", others.pem)
	roots.AddCert(newServers.cert)
	if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	until(t, "the new authority counts", func() error {
		if got := status(nil, &others, "ci", soon); got != http.StatusAccepted {
			return fmt.Errorf("%d", got)
		}
		return nil
	})
	if got := status(nil, &clients, "ci", soon); got != 0 {
		t.Errorf("of the old authority: %d, want no connection", got)
	}
	// A broken file changes nothing.
	file("ca.pem", []byte("not a certificate"))
	if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	until(t, "the log tells of the broken file", func() error {
		if !strings.Contains(s.log.String(), "no certificate in PEM") {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	if got := status(nil, &others, "ci", soon); got != http.StatusAccepted {
		t.Errorf("after a broken file: %d", got)
	}
}
