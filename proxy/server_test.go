package proxy

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/proxy/api"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/records"
	"github.com/sluiceproxy/sluice/proxy/upstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// noAdvisories is a server that has just been installed.
type noAdvisories struct{}

func (noAdvisories) Current() analyzer.Matcher   { return nil }
func (noAdvisories) Status() string              { return "they are being fetched" }
func (noAdvisories) Summary() api.AdvisoryStatus { return api.AdvisoryStatus{} }

// noScanner fails if an image is analysed.
type noScanner struct{}

func (noScanner) Scan(context.Context, io.Reader) (*analyzer.Layer, error) {
	return nil, errors.New("nothing should be scanned here")
}
func (noScanner) Revision() string { return "none" }

// run starts a server and returns it with a function that stops it and
// returns what Run returned.
func run(t *testing.T, change func(*Options)) (*Server, func() error) {
	t.Helper()
	dir := t.TempDir()
	log := zaptest.NewLogger(t)
	db, err := records.Open(t.Context(), filepath.Join(dir, "records.db"), log)
	if err != nil {
		t.Fatal(err)
	}
	opts := Options{
		Listen: "127.0.0.1:0", OpsListen: "127.0.0.1:0", Data: dir, Hold: time.Second, AnalysisTimeout: time.Minute,
		WhenMissing: policy.Pending, Drain: 10 * time.Second, Policy: policy.Default(), Advisories: noAdvisories{},
		Analyzer: analyzer.New(analyzer.Options{Scanner: noScanner{}, Log: log}), Records: db, Version: "test", Log: log,
		NoDockerConfig: true, LocalPrefix: "local",
	}
	if change != nil {
		change(&opts)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s, err := New(ctx, opts)
	if err != nil {
		cancel()
		t.Fatal(errors.Join(err, db.Close()))
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	var result error
	stopped := false
	stop := func() error {
		if !stopped {
			stopped = true
			cancel()
			result = errors.Join(<-done, db.Close())
			http.DefaultClient.CloseIdleConnections()
		}
		return result
	}
	t.Cleanup(func() { _ = stop() })
	return s, stop
}

func get(t *testing.T, c *http.Client, url string, header http.Header) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestListeners(t *testing.T) {
	s, stop := run(t, nil)
	reg, ops := "http://"+s.Addr().String(), "http://"+s.OpsAddr().String()
	for _, tt := range []struct {
		url    string
		status int
		text   string
	}{
		{reg + "/v2/", 200, "{}"},
		{reg + "/v2/evil.example/app/manifests/1", 404, "NAME_UNKNOWN"},
		{reg + "/v2/local/app/manifests/1", 405, "switched off"},
		{reg + "/metrics", 404, "UNSUPPORTED"},
		{ops + "/livez", 200, "ok"},
		{ops + "/readyz", 503, "[-] advisories: there are none yet: they are being fetched"},
		{ops + "/readyz?verbose", 503, "[+] store: ok"},
		{ops + "/metrics", 200, `sluice_build_info{version="test"} 1`},
		{ops + "/api/v1/policy", 200, "revision"},
		{ops + "/", 404, "console is not supported yet"},
		{ops + "/v2/", 404, "no such path"},
	} {
		if status, body := get(t, http.DefaultClient, tt.url, nil); status != tt.status || !strings.Contains(body, tt.text) {
			t.Errorf("GET %s: %d %s, want %d with %q", tt.url, status, body, tt.status, tt.text)
		}
	}
	if err := stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestOpsToken(t *testing.T) {
	s, _ := run(t, func(o *Options) { o.OpsToken = "sesame" })
	ops := "http://" + s.OpsAddr().String()
	for _, path := range []string{"/metrics", "/api/v1/verdicts"} {
		if status, _ := get(t, http.DefaultClient, ops+path, nil); status != http.StatusUnauthorized {
			t.Errorf("%s without the token: %d", path, status)
		}
		if status, _ := get(t, http.DefaultClient, ops+path, http.Header{"Authorization": {"Bearer sesame"}}); status != http.StatusOK {
			t.Errorf("%s with the token: %d", path, status)
		}
	}
	if status, _ := get(t, http.DefaultClient, ops+"/livez", nil); status != http.StatusOK {
		t.Errorf("liveness wants a token: %d", status)
	}
}

func TestNewRefuses(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"upstream address": func(o *Options) { o.Upstreams = []Upstream{{Config: upstream.Config{Name: "up", URL: "nonsense"}}} },
		"default upstream": func(o *Options) { o.DefaultUpstream = "nowhere" },
		"listen address":   func(o *Options) { o.Listen = "127.0.0.1:99999" },
		"certificate":      func(o *Options) { o.TLSCert, o.TLSKey = "missing.pem", "missing.key" },
	} {
		t.Run(name, func(t *testing.T) {
			db, err := records.Open(t.Context(), filepath.Join(t.TempDir(), "records.db"), zaptest.NewLogger(t))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = db.Close() }()
			log := zaptest.NewLogger(t)
			opts := Options{
				Listen: "127.0.0.1:0", OpsListen: "127.0.0.1:0", Data: t.TempDir(), Policy: policy.Default(), Advisories: noAdvisories{},
				Analyzer: analyzer.New(analyzer.Options{Scanner: noScanner{}, Log: log}), Records: db, Log: log,
			}
			change(&opts)
			if s, err := New(t.Context(), opts); err == nil {
				s.Close()
				t.Error("no error")
			}
		})
	}
}

// TestDrain: a request under way is answered after the stop.
func TestDrain(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/tags/list") {
			close(arrived)
			<-release
			_, _ = io.WriteString(w, `{"tags":["1"]}`)
		}
	}))
	defer up.Close()
	s, stop := run(t, func(o *Options) { o.Upstreams = []Upstream{{Config: upstream.Config{Name: "up", URL: up.URL}}} })
	answer := make(chan int, 1)
	go func() {
		resp, err := http.Get("http://" + s.Addr().String() + "/v2/up/app/tags/list") //nolint:noctx // bounded by the test
		if err != nil {
			answer <- 0
			return
		}
		_ = resp.Body.Close()
		answer <- resp.StatusCode
	}()
	<-arrived
	ended := make(chan error, 1)
	go func() { ended <- stop() }()
	for !s.draining.Load() {
		time.Sleep(time.Millisecond)
	}
	close(release)
	if code := <-answer; code != http.StatusOK {
		t.Errorf("the request under way got %d", code)
	}
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestTLSReload(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writeCert(t, cert, key, "first")
	s, _ := run(t, func(o *Options) { o.TLSCert, o.TLSKey = cert, key })
	name := func() string {
		t.Helper()
		d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // the test looks at the certificate itself
		c, err := d.DialContext(t.Context(), "tcp", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		return c.(*tls.Conn).ConnectionState().PeerCertificates[0].Subject.CommonName //nolint:errcheck,forcetypeassert // a tls.Dialer's connection
	}
	if got := name(); got != "first" {
		t.Errorf("certificate of %q", got)
	}
	writeCert(t, cert, key, "second")
	if err := s.ReloadTLS(); err != nil {
		t.Fatal(err)
	}
	if got := name(); got != "second" {
		t.Errorf("after the reload: certificate of %q", got)
	}
	if err := os.WriteFile(cert, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.ReloadTLS(); err == nil {
		t.Error("a broken certificate was taken")
	}
	if got := name(); got != "second" {
		t.Errorf("after a failed reload: certificate of %q", got)
	}
}

func writeCert(t *testing.T, cert, key, name string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	kder, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	for path, b := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "EC PRIVATE KEY", Bytes: kder}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
