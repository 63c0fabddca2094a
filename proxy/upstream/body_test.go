package upstream

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	godigest "github.com/opencontainers/go-digest"
)

// drip writes n bytes every pause until the client leaves or total have gone.
func drip(n, total int, pause time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for sent := 0; total <= 0 || sent < total; sent += n {
			if _, err := w.Write(make([]byte, n)); err != nil {
				return
			}
			w.(http.Flusher).Flush() //nolint:errcheck,forcetypeassert // net/http's are
			select {
			case <-r.Context().Done():
				return
			case <-time.After(pause):
			}
		}
	}
}

// TestSlowLorisUpstream: a body that trickles or stops is given up, one that
// is slow but gets on is not, nor is one whose reader is slow.
func TestSlowLorisUpstream(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
		stall  time.Duration
		think  time.Duration // of the reader, between reads
		want   time.Duration // until the stall is noticed, 0 = none
	}{
		{name: "silence", answer: drip(10, 0, time.Hour), want: time.Minute},
		{name: "silence, shorter limit", answer: drip(10, 0, time.Hour), stall: 5 * time.Second, want: 5 * time.Second},
		{name: "a byte each 10 s", answer: drip(1, 0, 10*time.Second), want: time.Minute},
		{name: "1 KiB each 59 s", answer: drip(1<<10, 20<<10, 59*time.Second)},
		{name: "slow reader", answer: drip(100, 1000, time.Second), think: 10 * time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u, _ := bubble(t, tt.answer, Options{Stall: tt.stall}, Config{})
				body, _, err := u.Blob(t.Context(), "app", godigest.FromString("x"), 0, -1)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = body.Close() }()
				start := time.Now()
				for buf := make([]byte, 4<<10); err == nil; time.Sleep(tt.think) {
					_, err = body.Read(buf)
				}
				if tt.want == 0 {
					if !errors.Is(err, io.EOF) {
						t.Errorf("error = %v, want the end", err)
					}
					return
				}
				var un *UnreachableError
				if took := time.Since(start); !errors.As(err, &un) || !strings.Contains(err.Error(), "stalled") || took != tt.want {
					t.Errorf("error = %v after %s, want a stall after %s", err, took, tt.want)
				}
				if n, again := body.Read(make([]byte, 1)); n != 0 || !errors.Is(again, err) {
					t.Errorf("read after the stall: %d, %v", n, again)
				}
			})
		})
	}
}

// TestSlowLorisManifest: the same holds for what is read whole.
func TestSlowLorisManifest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u, _ := bubble(t, drip(1, 0, time.Second), Options{}, Config{})
		_, err := u.Manifest(t.Context(), "app", "1")
		var un *UnreachableError
		if !errors.As(err, &un) || !strings.Contains(err.Error(), "stalled") {
			t.Errorf("error = %v, want a stall", err)
		}
	})
}

// TestSlowLorisErrorBody: a refusal whose explanation never ends is still the refusal.
func TestSlowLorisErrorBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u, _ := bubble(t, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(403)
			drip(1, 0, time.Second)(w, r)
		}, Options{}, Config{})
		start := time.Now()
		_, err := u.Manifest(t.Context(), "app", "1")
		var status *StatusError
		if took := time.Since(start); !errors.As(err, &status) || status.Status != 403 || took != time.Minute {
			t.Errorf("error = %v after %s, want the 403 after a minute", err, took)
		}
	})
}

func TestOversizedHeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u, _ := bubble(t, answer(200, "X-Big", strings.Repeat("x", 2*maxHeader)), Options{}, Config{})
		_, err := u.Manifest(t.Context(), "app", "1")
		var un *UnreachableError
		if !errors.As(err, &un) || !strings.Contains(err.Error(), "header") {
			t.Errorf("error = %v, want one of the header", err)
		}
	})
}

// raw answers with bytes of one's own.
func raw(t *testing.T, s string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack() //nolint:errcheck,forcetypeassert // net/http's are
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(conn, s)
		_ = conn.Close()
	}
}

// TestLyingContentLength: a manifest that is not as long as announced.
func TestLyingContentLength(t *testing.T) {
	whole := `{"schemaVersion":2}`
	d := godigest.FromString(whole).String()
	for _, tt := range []struct{ name, ref, header, body string }{
		{"shorter, by digest", d, "Content-Length: 4000\r\n", whole},
		{"shorter, by tag", "1", "Content-Length: 4000\r\n", whole},
		{"longer, by digest", d, "Content-Length: 5\r\n", whole},
		{"longer, by tag", "1", "Content-Length: 5\r\nDocker-Content-Digest: " + d + "\r\n", whole},
		{"larger than allowed", "1", "Content-Length: 99999999999\r\n", string(bytes.Repeat([]byte(" "), MaxManifest+2))},
		{"twice", "1", "Content-Length: 5\r\nContent-Length: 19\r\n", whole},
		{"negative", "1", "Content-Length: -1\r\n", whole},
		{"cut chunk", "1", "Transfer-Encoding: chunked\r\n", "ff\r\n" + whole},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u, _ := bubble(t, raw(t, "HTTP/1.1 200 OK\r\n"+tt.header+"\r\n"+tt.body), Options{}, Config{})
				m, err := u.Manifest(t.Context(), "app", tt.ref)
				var content *ContentError
				var un *UnreachableError
				if !errors.As(err, &content) && !errors.As(err, &un) {
					t.Errorf("Manifest = %+v, %v, want an error of the content or the connection", m, err)
				}
			})
		})
	}
}
