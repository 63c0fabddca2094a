package upstream

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// pipes is a network in memory with one server, so that a test can have a fake
// clock (synctest) and HTTP both.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
	dials atomic.Int32
	down  atomic.Bool // connections are refused
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "up.test"} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	p.dials.Add(1)
	if p.down.Load() {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	a, b := net.Pipe()
	select {
	case p.conns <- b:
		return a, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// bubble serves h as the upstream "up" inside a synctest bubble, whose end
// proves that no goroutine is left. The ping is answered here and not counted
// by h. Connections are not kept, so each request that is sent is seen.
func bubble(t *testing.T, h http.HandlerFunc, opts Options, cfg Config) (*Upstream, *pipes) {
	t.Helper()
	p := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/" {
			h(w, r)
		}
	}))
	_ = srv.Listener.Close()
	srv.Listener = p
	srv.Start()
	t.Cleanup(srv.Close)
	tr := newTransport(noMetadata)
	tr.Proxy, tr.DialContext, tr.DisableKeepAlives = nil, p.dial, true
	cfg.Name, cfg.URL = "up", "http://up.test"
	opts.Upstreams, opts.Base, opts.Anonymous = []Config{cfg}, tr, true
	c, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	u, err := c.Upstream("up")
	if err != nil {
		t.Fatal(err)
	}
	return u, p
}

// cut ends a connection without an answer.
func cut(w http.ResponseWriter, _ *http.Request) {
	panic(http.ErrAbortHandler)
}

func answer(status int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
	}
}

// script answers the n-th request with the n-th handler, and all further ones
// with the last.
type script struct {
	steps []http.HandlerFunc
	n     atomic.Int32
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i := int(s.n.Add(1)) - 1
	s.steps[min(i, len(s.steps)-1)](w, r)
}
