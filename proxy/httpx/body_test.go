package httpx

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
)

// TestSlowBody: a client that never ends the body of its request does not stay,
// whether the handler wants the body or not, and whether the client sends
// nothing more or a byte now and then.
func TestSlowBody(t *testing.T) {
	handlers := map[string]http.HandlerFunc{
		"unread": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "answer") },
		"read": func(w http.ResponseWriter, r *http.Request) {
			if err := r.ParseForm(); err == nil && r.Method == http.MethodPost {
				t.Error("the handler got a whole body")
			}
			_, _ = io.WriteString(w, "answer")
		},
	}
	const typ = "Content-Type: application/x-www-form-urlencoded\r\n"
	for name, h := range handlers {
		for _, request := range []string{
			"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n",
			"HEAD / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
			"POST / HTTP/1.1\r\nHost: x\r\n" + typ + "Content-Length: 100000\r\n\r\n",
			"PATCH / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
		} {
			for _, drip := range []string{"", "1"} {
				t.Run(name+" "+request[:5]+drip, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						client, server := net.Pipe()
						start := time.Now()
						ended := make(chan time.Duration, 1)
						srv := &http.Server{
							ReadHeaderTimeout: 10 * time.Second, Handler: Middleware(zap.NewNop(), h),
							ConnState: func(_ net.Conn, s http.ConnState) {
								if s == http.StateClosed {
									ended <- time.Since(start)
								}
							},
						}
						go func() { _ = srv.Serve(&oneConn{conn: server, done: make(chan struct{})}) }()
						var all sync.WaitGroup
						all.Go(func() {
							_, err := io.WriteString(client, request)
							for err == nil && drip != "" {
								time.Sleep(time.Second)
								_, err = io.WriteString(client, drip)
							}
						})
						all.Go(func() { _, _ = io.Copy(io.Discard, client) })
						select {
						case got := <-ended:
							if got > bodyPatience+time.Second {
								t.Errorf("ended after %s, want %s", got, bodyPatience)
							}
						case <-time.After(time.Hour):
							t.Error("still there after an hour")
						}
						_ = client.Close()
						_ = srv.Close()
						all.Wait()
					})
				})
			}
		}
	}
}

// TestBodyOfAGet does not disturb an answer that takes long.
func TestBodyOfAGet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer func() { _ = client.Close() }()
		srv := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: Middleware(zap.NewNop(), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for range 3 {
				time.Sleep(bodyPatience)
				_, _ = io.WriteString(w, "part ")
				_ = http.NewResponseController(w).Flush()
			}
			if err := r.Context().Err(); err != nil {
				t.Error(err)
			}
		}))}
		go func() { _ = srv.Serve(&oneConn{conn: server, done: make(chan struct{})}) }()
		if _, err := io.WriteString(client, "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(client), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		if b, err := io.ReadAll(resp.Body); err != nil || string(b) != strings.Repeat("part ", 3) {
			t.Errorf("%q, %v", b, err)
		}
		_ = srv.Close()
	})
}
