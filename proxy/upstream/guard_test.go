package upstream

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	godigest "github.com/opencontainers/go-digest"
)

func TestSpecialAddresses(t *testing.T) {
	for want, list := range map[string]string{
		"": "1.1.1.1 140.82.121.33 172.32.0.1 172.15.255.255 100.63.255.255 100.128.0.1 192.169.0.1 169.253.0.1 223.255.255.255 " +
			"2606:4700::6810:84e5 2a00:1450:4001::1 ::ffff:1.1.1.1 64:ff9b::101:101 2002:101:101::1",
		"loopback": "127.0.0.1 127.255.255.254 ::1 ::ffff:127.0.0.1 64:ff9b::7f00:1 2002:7f00:1::1 ::7f00:1",
		"private": "10.0.0.1 10.255.255.255 172.16.0.1 172.31.255.255 192.168.1.1 fc00::1 fdff::1 fec0::1 ::ffff:10.0.0.1 ::ffff:192.168.0.1 " +
			"64:ff9b::a00:1 2002:c0a8:101::",
		"link-local":        "169.254.0.1 169.254.255.255 fe80::1 fe80::1%eth0 febf::1 ::ffff:169.254.1.1 64:ff9b::a9fe:101",
		"carrier-grade NAT": "100.64.0.1 100.127.255.255 ::ffff:100.64.0.1 64:ff9b::6440:1",
		"unspecified":       "0.0.0.0 0.1.2.3 :: ::ffff:0.0.0.0",
		"multicast":         "224.0.0.1 239.255.255.255 ff02::1",
		"reserved": "192.0.0.1 192.0.2.1 198.18.0.1 198.51.100.1 203.0.113.1 240.0.0.1 255.255.255.255 " +
			"2001:0:a00:1::1 2001:db8::1 64:ff9b:1::a00:1 100::1 4000::1",
		cloudMetadata: "169.254.169.254 169.254.170.2 fd00:ec2::254 168.63.129.16 100.100.100.200 192.0.0.192 ::ffff:169.254.169.254 64:ff9b::a9fe:a9fe 2002:a9fe:a9fe::1",
	} {
		for s := range strings.FieldsSeq(list) {
			if got := special(netip.MustParseAddr(s)); got != want {
				t.Errorf("special(%s) = %q, want %q", s, got, want)
			}
		}
	}
}

func TestLiterals(t *testing.T) {
	for want, list := range map[string]string{
		"":            "registry.example.org docker.io 1.1.1.1 2606:4700::1 localhost.example.org a1 v2.x1",
		"loopback":    "localhost LOCALHOST localhost. up.localhost 127.0.0.1 127.0.0.1. ::1 ::ffff:127.0.0.1",
		"private":     "10.1.2.3 192.168.0.1 fd00::1",
		"link-local":  "fe80::1%eth0 169.254.1.1",
		"malformed":   "127.1 2130706433 0x7f000001 0X7F.1 127.0.0.0x1 0177.0.0.1 1.2.3.4.5 registry.0",
		cloudMetadata: "169.254.169.254 fd00:ec2::254",
	} {
		for s := range strings.FieldsSeq(list) {
			if got := literal(s); got != want {
				t.Errorf("literal(%s) = %q, want %q", s, got, want)
			}
		}
	}
}

func FuzzLiteral(f *testing.F) {
	for _, s := range []string{"localhost", "127.1", "::ffff:10.0.0.1", "fe80::1%x", "", ".", "0x", "a.0x.", "169.254.169.254"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := netip.ParseAddr(s)
		if err == nil && (a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsUnspecified()) && literal(s) == "" {
			t.Errorf("%q passes for public", s)
		}
		if err != nil && net.ParseIP(s) != nil {
			t.Errorf("%q is an address for the standard library's older parser only", s)
		}
	})
}

// dns is a name server that answers with an address of one's choice.
type dns struct {
	mu    sync.Mutex
	names map[string][]string // the n-th look-up gets the n-th address, later ones the last
}

// resolver starts the server and returns a resolver that asks it.
func (d *dns) resolver(t *testing.T) *net.Resolver {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
	go func() {
		defer close(done)
		for buf := make([]byte, 1500); ; {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			_, _ = conn.WriteToUDPAddrPort(d.reply(buf[:n]), from)
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var nd net.Dialer
		return nd.DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// reply is an answer of RFC 1035 to a question for A; all others get none.
func (d *dns) reply(q []byte) []byte {
	var name []string
	end := 12
	for q[end] != 0 {
		name = append(name, string(q[end+1:end+1+int(q[end])]))
		end += 1 + int(q[end])
	}
	end += 5 // the root, type and class
	d.mu.Lock()
	defer d.mu.Unlock()
	host := strings.Join(name, ".")
	answers := d.names[host]
	a := append([]byte{q[0], q[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, q[12:end]...)
	if binary.BigEndian.Uint16(q[end-4:]) != 1 || len(answers) == 0 {
		return a
	}
	if len(answers) > 1 {
		d.names[host] = answers[1:]
	}
	a[7] = 1
	ip := netip.MustParseAddr(answers[0]).As4()
	return append(append(a, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4), ip[:]...)
}

// outside is a fake that counts as a public registry of the name registry.test,
// beside an internal server that nothing must reach.
type outside struct {
	*fake
	dns      *dns
	tr       *http.Transport
	inside   *url.URL
	requests atomic.Int32 // to inside
}

func newOutside(t *testing.T) *outside {
	t.Helper()
	o := &outside{fake: newFake(t)}
	inside := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		o.requests.Add(1)
		_, _ = io.WriteString(w, `{"token":"internal"}`)
	}))
	t.Cleanup(inside.Close)
	public := netip.MustParseAddrPort(o.Listener.Addr().String())
	o.inside = &url.URL{Scheme: "http", Host: inside.Listener.Addr().String()}
	o.dns = &dns{names: map[string][]string{
		"registry.test": {"127.0.0.1"}, "internal.test": {"127.0.0.1"}, "metadata.test": {"169.254.169.254"}, "lan.test": {"10.0.0.1"},
	}}
	o.tr = guarded(&guard{
		resolver: o.dns.resolver(t),
		proxy:    func(*http.Request) (*url.URL, error) { return nil, nil },
		rule: func(ap netip.AddrPort) error { // the one address that is taken for public
			if ap == public {
				return nil
			}
			return publicOnly(ap)
		},
	})
	o.tr.DisableKeepAlives = true
	return o
}

func (o *outside) upstream(t *testing.T, cfg Config) *Upstream {
	t.Helper()
	cfg.Name = "up"
	if cfg.URL == "" {
		cfg.URL = "http://registry.test:" + port(o.Listener.Addr().String())
	}
	c, err := New(Options{Upstreams: []Config{cfg}, Anonymous: true, Base: o.tr})
	if err != nil {
		t.Fatal(err)
	}
	u, err := c.Upstream("up")
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func port(address string) string {
	return address[strings.LastIndexByte(address, ':')+1:]
}

func refused(err error, want string) bool {
	var content *ContentError
	return errors.As(err, &content) && content.Upstream == "up" && content.Op != "" && strings.Contains(content.Reason, want)
}

// TestDialGuardOnRedirects: wherever a public registry sends its client, it
// does not get inside.
func TestDialGuardOnRedirects(t *testing.T) {
	o := newOutside(t)
	at := ":" + port(o.inside.Host)
	for _, tt := range []struct{ host, want string }{
		{"internal.test" + at, "127.0.0.1, a loopback address"},
		{"metadata.test", "169.254.169.254, a cloud metadata address"},
		{"lan.test", "10.0.0.1, a private address"},
		{"127.0.0.1" + at, "127.0.0.1, a loopback address"},
		{"[::ffff:127.0.0.1]" + at, "a loopback address"},
		{"localhost" + at, "localhost, a loopback address"},
		{"2130706433" + at, "a malformed address"},
		{"127.1" + at, "a malformed address"},
		{"[64:ff9b::7f00:1]" + at, "a loopback address"},
		{"169.254.169.254", "a cloud metadata address"},
	} {
		t.Run(tt.host, func(t *testing.T) {
			o.set(func() {
				o.answer = func(w http.ResponseWriter, r *http.Request) {
					http.Redirect(w, r, "http://"+tt.host+"/secret", http.StatusTemporaryRedirect)
				}
			})
			u := o.upstream(t, Config{})
			_, _, err := u.Blob(t.Context(), "app", godigest.FromString("x"), 0, -1)
			if !refused(err, tt.want) || !strings.Contains(err.Error(), "allowPrivate") {
				t.Errorf("Blob: %v, want a *ContentError with %q", err, tt.want)
			}
			if _, err := u.Manifest(t.Context(), "app", "1"); !refused(err, tt.want) {
				t.Errorf("Manifest: %v, want a *ContentError with %q", err, tt.want)
			}
		})
	}
	if n := o.requests.Load(); n != 0 {
		t.Errorf("the inside got %d requests", n)
	}
}

// TestDialGuardOnTokenRealm: the ping's challenge does not lead inside either.
func TestDialGuardOnTokenRealm(t *testing.T) {
	o := newOutside(t)
	o.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="http://internal.test:`+port(o.inside.Host)+`/token",service="x"`)
		w.WriteHeader(http.StatusUnauthorized)
	})
	_, err := o.upstream(t, Config{Username: "ann", Password: "secret"}).Manifest(t.Context(), "app", "1")
	if !refused(err, "127.0.0.1, a loopback address") {
		t.Errorf("error = %v", err)
	}
	if n := o.requests.Load(); n != 0 {
		t.Errorf("the inside got %d requests", n)
	}
}

// TestDialGuardOnRebinding: a name that was public the first time is looked at
// again each time that it is dialled.
func TestDialGuardOnRebinding(t *testing.T) {
	o := newOutside(t)
	o.push(t, "app:1")
	o.dns.mu.Lock()
	o.dns.names["registry.test"] = []string{"127.0.0.1", "127.0.0.1", "127.0.0.2"} // the ping, a request, then elsewhere
	o.dns.mu.Unlock()
	u := o.upstream(t, Config{})
	if _, err := u.Resolve(t.Context(), "app", "1", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := u.Resolve(t.Context(), "app", "1", ""); !refused(err, "127.0.0.2, a loopback address") {
		t.Errorf("after the rebinding: %v", err)
	}
}

// TestDialGuardOnConfiguredName: a public name that resolves inside needs the
// operator's word.
func TestDialGuardOnConfiguredName(t *testing.T) {
	o := newOutside(t)
	inside := "http://internal.test:" + port(o.inside.Host)
	if _, err := o.upstream(t, Config{URL: inside}).Manifest(t.Context(), "app", "1"); !refused(err, "a loopback address") {
		t.Errorf("error = %v", err)
	}
	if n := o.requests.Load(); n != 0 {
		t.Fatalf("the inside got %d requests", n)
	}
	g := &guard{resolver: o.dns.resolver(t), proxy: func(*http.Request) (*url.URL, error) { return nil, nil }, rule: noMetadata}
	o.tr = guarded(g)
	if _, err := o.upstream(t, Config{URL: inside, AllowPrivate: true}).Manifest(t.Context(), "app", "1"); err != nil {
		t.Errorf("allowed: %v", err)
	}
	if _, err := o.upstream(t, Config{URL: "http://metadata.test", AllowPrivate: true}).Manifest(t.Context(), "app", "1"); !refused(err, "a cloud metadata address") {
		t.Errorf("metadata: %v", err)
	}
	o.tr.CloseIdleConnections()
}

// TestProxyOfTheOperatorMayBePrivate: and it is not a way around for literals.
func TestProxyOfTheOperatorMayBePrivate(t *testing.T) {
	o := newOutside(t)
	o.push(t, "app:1")
	proxy, err := url.Parse(o.URL)
	if err != nil {
		t.Fatal(err)
	}
	o.tr = guarded(&guard{rule: publicOnly, proxy: func(*http.Request) (*url.URL, error) { return proxy, nil }})
	defer o.tr.CloseIdleConnections()
	u := o.upstream(t, Config{URL: "http://registry.test"}) // which only the proxy would look up
	if _, err := u.Resolve(t.Context(), "app", "1", ""); err != nil {
		t.Fatalf("through the proxy: %v", err)
	}
	o.set(func() {
		o.answer = func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, o.inside.String()+"/secret", http.StatusTemporaryRedirect)
		}
	})
	if _, err := u.Resolve(t.Context(), "app", "1", ""); !refused(err, "a loopback address") {
		t.Errorf("redirect to a literal: %v", err)
	}
	if n := o.requests.Load() + int32(o.count("HEAD /secret")); n != 0 {
		t.Errorf("%d requests for the inside", n)
	}
}

func TestProxyAddress(t *testing.T) {
	for in, want := range map[string]string{
		"http://proxy.corp": "proxy.corp:80", "https://proxy.corp": "proxy.corp:443", "http://10.0.0.1:3128": "10.0.0.1:3128",
		"socks5://[fd00::1]": "[fd00::1]:1080",
	} {
		u, err := url.Parse(in)
		if err != nil {
			t.Fatal(err)
		}
		if got := proxyAddress(u); got != want {
			t.Errorf("proxyAddress(%s) = %s, want %s", in, got, want)
		}
	}
}

// TestDefaultTransports: which upstream may connect where, without a Base.
func TestDefaultTransports(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	defer srv.Close()
	for _, tt := range []struct {
		url   string
		allow bool
		want  bool // that loopback is dialled
	}{
		{"https://registry.example.org", false, false},
		{"https://registry.example.org", true, true},
		{"https://1.1.1.1", false, false},
		{"http://127.0.0.1:5555", false, true},
		{"http://localhost:5555", false, true},
		{"https://10.0.0.1", false, true},
		{"http://[::1]:5000", false, true},
	} {
		c, err := New(Options{Upstreams: []Config{{Name: "up", URL: tt.url, AllowPrivate: tt.allow}}, Anonymous: true})
		if err != nil {
			t.Fatal(err)
		}
		tr, ok := c.ups["up"].rt.(*steer).inner.(*http.Transport)
		if !ok {
			t.Fatal("no *http.Transport")
		}
		conn, err := tr.DialContext(t.Context(), "tcp", srv.Listener.Addr().String())
		if (err == nil) != tt.want {
			t.Errorf("%s, allowPrivate %v: dialled loopback: %v", tt.url, tt.allow, err)
		}
		if err == nil {
			_ = conn.Close()
		}
		if conn, err := tr.DialContext(t.Context(), "tcp", "169.254.169.254:80"); err == nil {
			_ = conn.Close()
			t.Errorf("%s, allowPrivate %v: dialled the metadata service", tt.url, tt.allow)
		}
	}
}

func TestRedirects(t *testing.T) {
	for _, tt := range []struct {
		hops int
		ok   bool
	}{{maxRedirects, true}, {maxRedirects + 1, false}} {
		f := newFake(t)
		left := tt.hops
		f.set(func() {
			f.answer = func(w http.ResponseWriter, r *http.Request) {
				if left--; left >= 0 {
					http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
				}
			}
		})
		body, _, err := f.client(t, Config{}, anonymous).Blob(t.Context(), "app", godigest.FromString("x"), 0, -1)
		if err == nil {
			_ = body.Close()
		}
		if tt.ok && err != nil || !tt.ok && !refused(err, "redirects more than 5 times") {
			t.Errorf("%d redirects: %v", tt.hops, err)
		}
	}
}

// TestPingRedirects: the registry library's own clients are held to the same.
func TestPingRedirects(t *testing.T) {
	n := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n++
		http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
	}))
	defer srv.Close()
	c, err := New(Options{Upstreams: []Config{{Name: "up", URL: srv.URL}}, Anonymous: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.ups["up"].Resolve(t.Context(), "app", "1", ""); !refused(err, "redirects more than 5 times") {
		t.Errorf("error = %v", err)
	}
	if n != maxRedirects+1 {
		t.Errorf("%d requests, want %d", n, maxRedirects+1)
	}
}

// TestNoTLSDowngrade: neither by a redirect nor by a token realm.
func TestNoTLSDowngrade(t *testing.T) {
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("%s %s came without TLS", r.Method, r.URL)
		_, _ = io.WriteString(w, `{"token":"x"}`)
	}))
	defer plain.Close()
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
		want   string
	}{
		{"redirect", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/v2/" {
				http.Redirect(w, r, plain.URL, http.StatusFound)
			}
		}, "without TLS"},
		{"redirect of the ping", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, plain.URL, http.StatusFound) }, "without TLS"},
		{"token realm", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+plain.URL+`/token"`)
			w.WriteHeader(http.StatusUnauthorized)
		}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := httptest.NewTLSServer(tt.answer)
			defer srv.Close()
			tr := newTransport(noMetadata)
			tr.TLSClientConfig = srv.Client().Transport.(*http.Transport).TLSClientConfig //nolint:errcheck,forcetypeassert // httptest's is
			defer tr.CloseIdleConnections()
			c, err := New(Options{Upstreams: []Config{{Name: "up", URL: srv.URL}}, Anonymous: true, Base: tr})
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.ups["up"].Manifest(t.Context(), "app", "1")
			if err == nil || tt.want != "" && !refused(err, tt.want) {
				t.Errorf("error = %v", err)
			}
		})
	}
}
