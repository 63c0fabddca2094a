package httpx

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap/zaptest"
	"go.uber.org/zap/zaptest/observer"

	"go.uber.org/zap"

	"github.com/sluiceproxy/sluice/proxy/fetch"
	"github.com/sluiceproxy/sluice/proxy/gate"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/route"
	"github.com/sluiceproxy/sluice/proxy/upstream"
)

func TestErrorTable(t *testing.T) {
	denial := policy.Verdict{ID: "v-7", Decision: policy.Deny, Image: "docker.io/library/x", Reasons: []policy.Reason{
		{Rule: "critical", Action: policy.Deny, Message: "CVE-2026-0001 in y"},
		{Rule: "high", Action: policy.Annotate, Message: "only a note"},
	}}
	status := func(code int) error { return &upstream.StatusError{Upstream: "up", Op: "manifest x:1", Status: code} }
	for _, tt := range []struct {
		name   string
		err    error
		status int
		code   string
		text   string // in the message
		retry  string
	}{
		{"denied", fmt.Errorf("wrapped: %w", &policy.DeniedError{Verdict: denial}), 403, "DENIED", "CVE-2026-0001 in y (verdict v-7)", ""},
		{"pending", &gate.PendingError{Reason: "is being analysed", RetryAfter: 1500 * time.Millisecond}, 503, "UNAVAILABLE", "is being analysed", "2"},
		{"blob unknown", gate.ErrBlobUnknown, 404, "BLOB_UNKNOWN", "", ""},
		{"upstream 401", status(401), 401, "UNAUTHORIZED", "upstream up", ""},
		{"upstream 403", status(403), 403, "DENIED", "", ""},
		{"upstream 404", status(404), 404, "MANIFEST_UNKNOWN", "", ""},
		{"upstream 429", &upstream.StatusError{Status: 429, RetryAfter: time.Minute}, 429, "TOOMANYREQUESTS", "", "60"},
		{"upstream 500", status(500), 500, "UNAVAILABLE", "", ""},
		{"upstream 503", status(503), 503, "UNAVAILABLE", "", ""},
		{"upstream 204", status(204), 502, "UNAVAILABLE", "204", ""},
		{"upstream 304", status(304), 502, "UNAVAILABLE", "304", ""},
		{"upstream 999", status(999), 502, "UNAVAILABLE", "999", ""},
		{"upstream's own code", &upstream.StatusError{Status: 404, Code: "NAME_UNKNOWN"}, 404, "NAME_UNKNOWN", "", ""},
		{"unreachable", &upstream.UnreachableError{Upstream: "up", Op: "x", Err: errors.New("refused")}, 502, "UNAVAILABLE", "refused", ""},
		{"time-out", &upstream.UnreachableError{Upstream: "up", Op: "x", Err: context.DeadlineExceeded}, 504, "UNAVAILABLE", "in time", ""},
		{"wrong content", &upstream.ContentError{Upstream: "up", Op: "x", Reason: "wrong digest"}, 502, "UNAVAILABLE", "wrong digest", ""},
		{"wrong blob", &fetch.Error{Err: fmt.Errorf("%w: x", fetch.ErrMismatch)}, 502, "UNAVAILABLE", "something else", ""},
		{"full disk", &fetch.Error{Err: syscall.ENOSPC}, 503, "UNAVAILABLE", "no space left", "30"},
		{"server stops", fmt.Errorf("analysis: %w", context.Canceled), 503, "UNAVAILABLE", "stops", "30"},
		{"blob refused upstream", &fetch.Error{Err: &upstream.StatusError{Op: "blob x", Status: 404}}, 404, "BLOB_UNKNOWN", "", ""},
		{"unknown name", fmt.Errorf("%w: ns", route.ErrNameUnknown), 404, "NAME_UNKNOWN", "ns", ""},
		{"bad name", route.ErrNameInvalid, 400, "NAME_INVALID", "", ""},
		{"bad digest", route.ErrDigestInvalid, 400, "DIGEST_INVALID", "", ""},
		{"no path", route.ErrNotFound, 404, "UNSUPPORTED", "", ""},
		{"unsupported", Unsupported("not yet"), 405, "UNSUPPORTED", "not yet", ""},
		{"anything else", errors.New("password=hunter2 in the DSN"), 500, "UNKNOWN", "X-Request-Id", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				rec := httptest.NewRecorder()
				rec.Header().Set("Docker-Content-Digest", "sha256:of-another-answer")
				WriteOCIError(rec, httptest.NewRequestWithContext(t.Context(), method, "/v2/x", nil), tt.err)
				if rec.Code != tt.status || rec.Header().Get("Retry-After") != tt.retry || rec.Header().Get("Docker-Content-Digest") != "" {
					t.Errorf("%s: status %d, headers %v", method, rec.Code, rec.Header())
				}
				if method == http.MethodHead {
					if rec.Body.Len() != 0 {
						t.Errorf("HEAD has a body: %s", rec.Body)
					}
					continue
				}
				var body struct {
					Errors []struct {
						Code, Message string
						Detail        map[string]any
					}
				}
				if err := json.Unmarshal(rec.Body.Bytes(), &body); err != nil || len(body.Errors) != 1 {
					t.Fatalf("body %s: %v", rec.Body, err)
				}
				e := body.Errors[0]
				if e.Code != tt.code || !strings.Contains(e.Message, tt.text) || strings.Contains(e.Message, "hunter2") {
					t.Errorf("error = %+v", e)
				}
				if tt.name == "denied" && (e.Detail["verdict"] != "v-7" || len(e.Detail["reasons"].([]any)) != 1) { //nolint:errcheck,forcetypeassert // a panic fails the test
					t.Errorf("detail = %v", e.Detail)
				}
			}
		})
	}
}

// TestClientThatLeft is no failure of the server.
func TestClientThatLeft(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	h := Middleware(zap.New(core), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		WriteOCIError(w, r, fmt.Errorf("judge: %w", context.Cause(r.Context())))
	}))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, http.MethodGet, "/v2/x", nil))
	if n := logs.FilterMessage("request failed").Len(); n != 0 {
		t.Errorf("%d failures logged", n)
	}
	for _, e := range logs.FilterMessage("request").All() {
		if status := e.ContextMap()["status"]; status != int64(statusGone) {
			t.Errorf("status %v", status)
		}
	}
}

func TestMiddleware(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	h := Middleware(zap.New(core), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/panic":
			panic("boom")
		case "/abort":
			_, _ = io.WriteString(w, "half")
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, "fine")
	}))
	srv := httptest.NewServer(h)
	defer srv.Close()
	type answer struct {
		status   int
		id, body string
	}
	get := func(path, id string) (answer, error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Request-Id", id)
		req.Header.Set("X-Forwarded-For", "6.6.6.6")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return answer{}, err
		}
		defer func() { _ = resp.Body.Close() }()
		b, err := io.ReadAll(resp.Body)
		return answer{resp.StatusCode, resp.Header.Get("X-Request-Id"), string(b)}, err
	}
	a, err := get("/x", "client-id-1")
	if err != nil || a.body != "fine" || a.id != "client-id-1" {
		t.Errorf("answer %+v, %v", a, err)
	}
	if a, err = get("/x", "forged id, with spaces"); err != nil || !plainID(a.id) {
		t.Errorf("id %q was taken over, %v", a.id, err)
	}
	if a, err = get("/panic", ""); err != nil || a.status != http.StatusInternalServerError {
		t.Errorf("panic: %+v, %v", a, err)
	}
	if _, err = get("/abort", ""); err == nil {
		t.Error("an aborted answer looked whole")
	}
	for _, e := range logs.FilterMessage("request").All() {
		if c := e.ContextMap()["client"]; c != "127.0.0.1" {
			t.Errorf("client %v: a header was believed", c)
		}
	}
	if n := logs.FilterMessage("handler panicked").Len(); n != 1 {
		t.Errorf("%d panics logged, want 1", n)
	}
}

// readerFrom tells whether a file reaches the connection as a file, which is
// what makes it a sendfile.
type readerFrom struct {
	http.ResponseWriter
	file bool
}

func (w *readerFrom) ReadFrom(r io.Reader) (int64, error) {
	if l, ok := r.(*io.LimitedReader); ok {
		_, w.file = l.R.(*os.File)
	}
	return io.Copy(io.Discard, r)
}

func TestFilesReachTheConnection(t *testing.T) {
	name := filepath.Join(t.TempDir(), "blob")
	if err := os.WriteFile(name, bytes.Repeat([]byte("x"), 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	inner := &readerFrom{ResponseWriter: httptest.NewRecorder()}
	h := Middleware(zaptest.NewLogger(t), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, f)
	}))
	h.ServeHTTP(inner, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	if !inner.file {
		t.Error("the connection did not get the *os.File")
	}
}

// serveFile serves the file name on the connections of wrap's listener.
func serveFile(t *testing.T, name string, wrap func(net.Listener) net.Listener) *httptest.Server {
	t.Helper()
	srv := httptest.NewUnstartedServer(Middleware(zap.NewNop(), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, err := os.Open(name)
		if err != nil {
			panic(err)
		}
		defer func() { _ = f.Close() }()
		if r.URL.Path == "/parts" { // as they come from an upstream
			w.Header().Set("Content-Length", r.Header.Get("X-Length"))
			w.WriteHeader(http.StatusOK)
			for err == nil {
				_, err = io.CopyN(w, f, 100<<10)
			}
			return
		}
		http.ServeContent(w, r, "", time.Time{}, f)
	})))
	srv.Listener = wrap(srv.Listener)
	srv.Config.ConnContext = WithConn
	srv.Start()
	t.Cleanup(srv.Close)
	return srv
}

// TestFilesArriveWhole: sent past net/http or not, whole or in part, and the
// connection is kept.
func TestFilesArriveWhole(t *testing.T) {
	name := filepath.Join(t.TempDir(), "blob")
	content := make([]byte, 3<<20+17)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(content)
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	for kind, wrap := range map[string]func(net.Listener) net.Listener{"past": Files, "net/http": func(l net.Listener) net.Listener { return l }} {
		var count counting
		srv := serveFile(t, name, func(l net.Listener) net.Listener {
			count.Listener = l
			return wrap(&count)
		})
		ask := func(method, path, ranges string) (int, []byte) {
			req, err := http.NewRequestWithContext(t.Context(), method, srv.URL+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("X-Length", strconv.Itoa(len(content)))
			if ranges != "" {
				req.Header.Set("Range", "bytes="+ranges)
			}
			resp, err := srv.Client().Do(req)
			if err != nil {
				t.Fatalf("%s %s: %v", kind, path, err)
			}
			defer func() { _ = resp.Body.Close() }()
			b, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatalf("%s %s after %d bytes: %v", kind, path, len(b), err)
			}
			if length := resp.Header.Get("Content-Length"); method != http.MethodHead && length != strconv.Itoa(len(b)) {
				t.Errorf("%s %s: %d bytes, Content-Length %s", kind, path, len(b), length)
			}
			return resp.StatusCode, b
		}
		for range 2 {
			for _, tt := range []struct {
				method, path, ranges string
				status               int
				want                 []byte
			}{
				{http.MethodGet, "/", "", http.StatusOK, content},
				{http.MethodHead, "/", "", http.StatusOK, nil},
				{http.MethodGet, "/parts", "", http.StatusOK, content},
				{http.MethodGet, "/", "1000000-", http.StatusPartialContent, content[1000000:]},
				{http.MethodGet, "/", "5-9", http.StatusPartialContent, content[5:10]},
				{http.MethodGet, "/", "0-65535,1000000-1200000", http.StatusPartialContent, nil},
			} {
				status, got := ask(tt.method, tt.path, tt.ranges)
				if status != tt.status || !bytes.Equal(got, tt.want) && !strings.Contains(tt.ranges, ",") {
					t.Errorf("%s: %s %s %s: status %d, %d bytes, want %d, %d", kind, tt.method, tt.path, tt.ranges, status, len(got), tt.status, len(tt.want))
				}
			}
		}
		if n := count.accepted.Load(); n != 1 {
			t.Errorf("%s: %d connections, want one that is kept", kind, n)
		}
	}
}

// counting counts what it accepts.
type counting struct {
	net.Listener
	accepted atomic.Int32
}

func (l *counting) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.accepted.Add(1)
	}
	return c, err
}

// TestFileThatEndsEarly: a file that is shorter than was said is no whole answer.
func TestFileThatEndsEarly(t *testing.T) {
	name := filepath.Join(t.TempDir(), "blob")
	if err := os.WriteFile(name, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	srv := serveFile(t, name, Files)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+"/parts", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Length", strconv.Itoa(1<<20+1))
	resp, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if n, err := io.Copy(io.Discard, resp.Body); err == nil || n != 1<<20 {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// TestClientThatTakesNothing: its connection is cut, and not before its time,
// whether the answer is long or so short that it waits in a buffer until the
// handler is done.
func TestClientThatTakesNothing(t *testing.T) {
	for _, size := range []int{10 << 20, 10} {
		synctest.Test(t, func(t *testing.T) {
			client, server := net.Pipe() // a write waits for the reader, as on a full socket
			defer func() { _ = client.Close() }()
			start := time.Now()
			ended := make(chan time.Duration, 1)
			srv := &http.Server{
				ReadHeaderTimeout: time.Minute,
				Handler: Middleware(zap.NewNop(), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					_, _ = w.Write(make([]byte, size))
				})),
				ConnState: func(_ net.Conn, s http.ConnState) {
					if s == http.StateClosed {
						ended <- time.Since(start)
					}
				},
			}
			go func() { _ = srv.Serve(&oneConn{conn: server, done: make(chan struct{})}) }()
			if _, err := io.WriteString(client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			got := <-ended
			if got != patience {
				t.Errorf("%d bytes: cut after %s, want %s", size, got, patience)
			}
			_ = srv.Close()
		})
	}
}

// TestSlowHandler: what a handler takes before it answers, and what a kept
// connection rests between two requests, is not the client's fault.
func TestSlowHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer func() { _ = client.Close() }()
		srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: Middleware(zap.NewNop(), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(2 * patience)
			if r.URL.Path == "/status" {
				w.WriteHeader(http.StatusCreated)
			}
		}))}
		go func() { _ = srv.Serve(&oneConn{conn: server, done: make(chan struct{})}) }()
		answers := bufio.NewReader(client)
		for path, want := range map[string]int{"/status": http.StatusCreated, "/nothing": http.StatusOK} {
			if _, err := io.WriteString(client, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(answers, nil)
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != want {
				t.Errorf("%s: status %d, want %d", path, resp.StatusCode, want)
			}
			time.Sleep(2 * patience)
		}
		_ = srv.Close()
	})
}

// overHTTP2 asks h for / on a connection of its own.
func overHTTP2(t *testing.T, h http.HandlerFunc, body io.Reader) (*http.Response, error) {
	t.Helper()
	client, server := net.Pipe()
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Protocols: protocols, Handler: Middleware(zap.NewNop(), h)}
	go func() { _ = srv.Serve(&oneConn{conn: server, done: make(chan struct{})}) }()
	tr := &http.Transport{Protocols: protocols, DialContext: func(context.Context, string, string) (net.Conn, error) { return client, nil }}
	t.Cleanup(func() {
		tr.CloseIdleConnections()
		_ = srv.Close()
	})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://x/", body)
	if err != nil {
		t.Fatal(err)
	}
	return tr.RoundTrip(req)
}

// TestSlowHandlerOverHTTP2: there a deadline ends the stream also while nothing is
// to be written: a large layer is pushed, or the end of one is withheld.
func TestSlowHandlerOverHTTP2(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body, push := io.Pipe()
		go func() {
			for range 3 {
				_, _ = push.Write(make([]byte, 100<<10))
				time.Sleep(patience)
			}
			_ = push.Close()
		}()
		resp, err := overHTTP2(t, func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // as handlers do that read long bodies
			n, err := io.Copy(io.Discard, r.Body)
			if err != nil || n != 300<<10 {
				t.Errorf("%d bytes of the body, %v", n, err)
			}
			w.WriteHeader(http.StatusCreated)
			for range 3 {
				_, err := io.WriteString(w, "drop")
				if err = errors.Join(err, http.NewResponseController(w).Flush()); err != nil {
					t.Error(err)
				}
				time.Sleep(2 * patience)
			}
			_, _ = io.Copy(w, strings.NewReader("the end"))
		}, body)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "dropdropdropthe end" {
			t.Errorf("%q, %v", b, err)
		}
	})
}

// TestClientThatTakesNothingOverHTTP2 is cut all the same, in whatever way the
// answer is written.
func TestClientThatTakesNothingOverHTTP2(t *testing.T) {
	for name, write := range map[string]func(http.ResponseWriter, []byte) error{
		"written": func(w http.ResponseWriter, b []byte) error { _, err := w.Write(b); return err },
		"copied":  func(w http.ResponseWriter, b []byte) error { _, err := io.Copy(w, bytes.NewReader(b)); return err },
		"flushed": func(w http.ResponseWriter, b []byte) error {
			for ; len(b) > 0; b = b[100:] {
				_, err := w.Write(b[:100])
				if err = errors.Join(err, http.NewResponseController(w).Flush()); err != nil {
					return err
				}
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ended := make(chan time.Duration, 1)
				resp, err := overHTTP2(t, func(w http.ResponseWriter, _ *http.Request) {
					start := time.Now()
					if err := write(w, make([]byte, 10_000_000)); err == nil {
						t.Error("all was taken")
					}
					ended <- time.Since(start)
				}, http.NoBody)
				if err != nil {
					t.Fatal(err)
				}
				if got := <-ended; got != patience {
					t.Errorf("cut after %s, want %s", got, patience)
				}
				_ = resp.Body.Close()
			})
		})
	}
}

// oneConn is a listener of one connection.
type oneConn struct {
	conn net.Conn
	done chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	if c := l.conn; c != nil {
		l.conn = nil
		return c, nil
	}
	<-l.done
	return nil, net.ErrClosed
}

func (l *oneConn) Close() error {
	close(l.done)
	return nil
}
func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }

func TestClientIP(t *testing.T) {
	for addr, want := range map[string]string{"10.0.0.1:99": "10.0.0.1", net.JoinHostPort("::1", "5"): "::1", "odd": "odd"} {
		if got := ClientIP(&http.Request{RemoteAddr: addr}); got != want {
			t.Errorf("ClientIP(%q) = %q, want %q", addr, got, want)
		}
	}
}
