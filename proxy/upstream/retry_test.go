package upstream

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	godigest "github.com/opencontainers/go-digest"
)

func TestRetries(t *testing.T) {
	ok := func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }
	half := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "2")
		_, _ = io.WriteString(w, "{")
	}
	manifest := func(ctx context.Context, u *Upstream) error {
		_, err := u.Manifest(ctx, "app", "1")
		return err
	}
	head := func(ctx context.Context, u *Upstream) error {
		_, err := u.Resolve(ctx, "app", "1", "")
		return err
	}
	tags := func(ctx context.Context, u *Upstream) error {
		_, _, err := u.Tags(ctx, "app", 0, "")
		return err
	}
	blob := func(ctx context.Context, u *Upstream) error {
		body, _, err := u.Blob(ctx, "app", godigest.FromString("x"), 0, -1)
		if err == nil {
			_, err = io.ReadAll(body)
			_ = body.Close()
		}
		return err
	}
	digest := answer(200, "Docker-Content-Digest", godigest.FromString("x").String())
	for _, tt := range []struct {
		name     string
		call     func(context.Context, *Upstream) error
		steps    []http.HandlerFunc
		deadline time.Duration
		requests int32
		status   int           // of the error, 0 = none expected, -1 = another error
		min, max time.Duration // that it took
	}{
		{name: "at once", call: manifest, steps: []http.HandlerFunc{ok}, requests: 1},
		{name: "502, 504, then well", call: manifest, steps: []http.HandlerFunc{answer(502), answer(504), ok}, requests: 3, max: 750 * time.Millisecond},
		{name: "HEAD", call: head, steps: []http.HandlerFunc{answer(503), digest}, requests: 2, max: 250 * time.Millisecond},
		{name: "tags", call: tags, steps: []http.HandlerFunc{answer(503), ok}, requests: 2, max: 250 * time.Millisecond},
		{name: "503 for ever", call: manifest, steps: []http.HandlerFunc{answer(503)}, requests: 3, status: 503, max: 750 * time.Millisecond},
		{name: "503 with a short wait", call: manifest, steps: []http.HandlerFunc{answer(503, "Retry-After", "1"), ok}, requests: 2, min: time.Second, max: time.Second},
		{name: "503 with a long wait", call: manifest, steps: []http.HandlerFunc{answer(503, "Retry-After", "3")}, requests: 1, status: 503},
		{name: "429", call: manifest, steps: []http.HandlerFunc{answer(429)}, requests: 1, status: 429},
		{name: "429 with a short wait", call: manifest, steps: []http.HandlerFunc{answer(429, "Retry-After", "2"), ok}, requests: 2, min: 2 * time.Second, max: 2 * time.Second},
		{name: "429 with a long wait", call: manifest, steps: []http.HandlerFunc{answer(429, "Retry-After", "3")}, requests: 1, status: 429},
		{name: "404", call: manifest, steps: []http.HandlerFunc{answer(404)}, requests: 1, status: 404},
		{name: "500", call: manifest, steps: []http.HandlerFunc{answer(500)}, requests: 1, status: 500},
		{name: "no time for the wait", call: manifest, steps: []http.HandlerFunc{answer(503, "Retry-After", "2")}, deadline: time.Second, requests: 1, status: 503},
		{name: "cut, then well", call: manifest, steps: []http.HandlerFunc{cut, cut, ok}, requests: 3, max: 750 * time.Millisecond},
		{name: "cut for ever", call: manifest, steps: []http.HandlerFunc{cut}, requests: 3, status: -1, max: 750 * time.Millisecond},
		{name: "manifest cut in its middle, then well", call: manifest, steps: []http.HandlerFunc{half, ok}, requests: 2, max: 250 * time.Millisecond},
		{name: "wrong content", call: tags, steps: []http.HandlerFunc{answer(200)}, requests: 1, status: -1},
		{name: "blob, 503", call: blob, steps: []http.HandlerFunc{answer(503)}, requests: 1, status: 503},
		{name: "blob, cut before the header", call: blob, steps: []http.HandlerFunc{cut, ok}, requests: 2, max: 250 * time.Millisecond},
		{name: "blob, cut twice", call: blob, steps: []http.HandlerFunc{cut}, requests: 2, status: -1, max: 250 * time.Millisecond},
		{name: "blob, cut in its middle", call: blob, steps: []http.HandlerFunc{half}, requests: 1, status: -1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{steps: tt.steps}
				u, _ := bubble(t, s.ServeHTTP, Options{}, Config{})
				ctx := t.Context()
				if tt.deadline > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tt.deadline)
					defer cancel()
				}
				start := time.Now()
				err := tt.call(ctx, u)
				took := time.Since(start)
				var status *StatusError
				switch errors.As(err, &status); {
				case tt.status == 0 && err != nil, tt.status < 0 && (err == nil || status != nil), tt.status > 0 && (status == nil || status.Status != tt.status):
					t.Errorf("error = %v, want status %d", err, tt.status)
				}
				if n := s.n.Load(); n != tt.requests {
					t.Errorf("%d requests, want %d", n, tt.requests)
				}
				if took < tt.min || took > tt.max {
					t.Errorf("took %s, want %s to %s", took, tt.min, tt.max)
				}
			})
		})
	}
}

// TestRetriesRefusedConnections is an upstream that restarts.
func TestRetriesRefusedConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u, p := bubble(t, answer(200, "Docker-Content-Digest", godigest.FromString("x").String()), Options{}, Config{})
		p.down.Store(true)
		_, err := u.Resolve(t.Context(), "app", "1", "")
		var un *UnreachableError
		if n := p.dials.Load(); !errors.As(err, &un) || n != maxTries {
			t.Errorf("error = %v after %d connections, want an *UnreachableError after %d", err, n, maxTries)
		}
		time.AfterFunc(time.Millisecond, func() { p.down.Store(false) })
		if _, err := u.Resolve(t.Context(), "app", "1", ""); err != nil {
			t.Errorf("back again: %v", err)
		}
	})
}

// TestBlobsAreLeftToFetch: it has pauses and a count of its own.
func TestBlobsAreLeftToFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u, p := bubble(t, answer(404), Options{}, Config{})
		_, _ = u.Resolve(t.Context(), "app", "1", "")
		p.down.Store(true)
		before := p.dials.Load()
		_, _, err := u.Blob(t.Context(), "app", godigest.FromString("x"), 0, -1)
		var un *UnreachableError
		if n := p.dials.Load() - before; !errors.As(err, &un) || n != 1 {
			t.Errorf("error = %v after %d connections, want an *UnreachableError after one", err, n)
		}
	})
}

// TestNoRetryOfTimeouts: the time is used up when one is noticed.
func TestNoRetryOfTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u, p := bubble(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, Options{}, Config{})
		start := time.Now()
		_, err := u.Resolve(t.Context(), "app", "1", "")
		var un *UnreachableError
		if took := time.Since(start); !errors.As(err, &un) || !errors.Is(err, context.DeadlineExceeded) || took != headerTimeout {
			t.Errorf("error = %v after %s, want a time-out after %s", err, took, headerTimeout)
		}
		if n := p.dials.Load(); n != 2 { // the ping's and this
			t.Errorf("%d connections, want 2", n)
		}
	})
}

// TestHandshakeKeepsRetryAfter: a token server that limits says for how long.
func TestHandshakeKeepsRetryAfter(t *testing.T) {
	f := newFake(t)
	f.set(func() { f.user = "ann" })
	f.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/token" {
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+f.URL+`/token",service="fake"`)
			w.WriteHeader(401)
			return
		}
		w.Header().Set("Retry-After", "70")
		w.WriteHeader(429)
	})
	_, err := f.client(t, Config{}, anonymous).Manifest(t.Context(), "app", "1")
	var status *StatusError
	if !errors.As(err, &status) || status.Status != 429 || status.RetryAfter != 70*time.Second || status.Upstream != "up" || status.Op != "manifest app:1" {
		t.Errorf("error = %#v", err)
	}
}

func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var status, n int
		var mu sync.Mutex
		u, _ := bubble(t, func(w http.ResponseWriter, _ *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			n++
			w.WriteHeader(status)
		}, Options{}, Config{})
		ask := func(s int) (sent bool, err error) {
			mu.Lock()
			status, n = s, 0
			mu.Unlock()
			_, _, err = u.Tags(t.Context(), "app", 0, "")
			return n > 0, err
		}
		failures := func(k int) {
			t.Helper()
			for i := range k {
				if sent, err := ask(500); !sent {
					t.Fatalf("failure %d was not sent: %v", i+1, err)
				}
			}
		}
		for _, alive := range []int{404, 429, 401, 200} { // each proves that it lives
			failures(breakAfter - 1)
			if sent, err := ask(alive); !sent {
				t.Fatalf("open after %d failures: %v", breakAfter-1, err)
			}
		}
		failures(breakAfter)
		for _, pause := range []time.Duration{5, 10, 20, 40, 60, 60} {
			sent, err := ask(200)
			var un *UnreachableError
			var open *openError
			if sent || !errors.As(err, &un) || !errors.As(err, &open) {
				t.Fatalf("open circuit: sent %v, %v", sent, err)
			}
			time.Sleep(pause*time.Second - time.Millisecond)
			if sent, err := ask(200); sent {
				t.Fatalf("sent before %d s are over: %v", pause, err)
			}
			time.Sleep(time.Millisecond)
			failures(1) // the trial
		}
		time.Sleep(maxOpenTime)
		for range 2 {
			if sent, err := ask(404); !sent {
				t.Fatalf("still open after a success: %v", err)
			}
		}
		failures(breakAfter) // counted from the start
		if sent, _ := ask(200); sent {
			t.Error("not open again")
		}
		time.Sleep(minOpenTime)
		if sent, _ := ask(404); !sent {
			t.Error("the first pause is not the shortest again")
		}
	})
}

// TestBreakerLeavesRedirectsOut: a blob's other host that fails or does not exist
// is no reason to stop asking the upstream, which answered.
func TestBreakerLeavesRedirectsOut(t *testing.T) {
	f := newFake(t)
	broken := httptest.NewServer(answer(http.StatusInternalServerError))
	t.Cleanup(broken.Close)
	gone := httptest.NewServer(answer(http.StatusOK))
	gone.Close()
	u := f.client(t, Config{}, anonymous)
	blobs := func(to string) {
		f.set(func() {
			f.answer = func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusTemporaryRedirect) }
		})
		for range 2 * breakAfter {
			if _, _, err := u.Blob(t.Context(), "app", godigest.FromString("x"), 0, -1); err == nil {
				t.Fatalf("%s: no error", to)
			}
		}
		f.set(func() { f.answer = answer(http.StatusOK) })
		if _, err := u.Manifest(t.Context(), "app", "1"); err != nil {
			t.Errorf("after redirects to %s: %v", to, err)
		}
	}
	blobs(broken.URL)
	blobs(gone.URL)
	f.set(func() {
		f.answer = func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/here" { // a redirect to the upstream itself is no other host's
				http.Redirect(w, r, "/here", http.StatusTemporaryRedirect)
				return
			}
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	var open *openError
	var err error
	for range breakAfter + 1 {
		_, _, err = u.Blob(t.Context(), "app", godigest.FromString("x"), 0, -1)
	}
	if !errors.As(err, &open) {
		t.Errorf("after redirects to itself that fail: %v", err)
	}
}

// TestBreakerTrial: one call goes through after a pause, and if its caller
// leaves, the next one.
func TestBreakerTrial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		s := &script{steps: []http.HandlerFunc{answer(500), func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, func(w http.ResponseWriter, _ *http.Request) {
			<-hang
			w.WriteHeader(404)
		}}}
		u, _ := bubble(t, s.ServeHTTP, Options{BreakAfter: 1}, Config{})
		_, _, _ = u.Tags(t.Context(), "app", 0, "")
		time.Sleep(minOpenTime)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err := u.Tags(ctx, "app", 0, ""); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("trial whose caller leaves: %v", err)
		}
		var wg sync.WaitGroup
		wg.Go(func() { _, _, _ = u.Tags(t.Context(), "app", 0, "") })
		synctest.Wait()
		for range 10 {
			var open *openError
			if _, _, err := u.Tags(t.Context(), "app", 0, ""); !errors.As(err, &open) {
				t.Errorf("beside the trial: %v", err)
			}
		}
		close(hang)
		wg.Wait()
		if n := s.n.Load(); n != 3 {
			t.Errorf("%d requests, want 3: the failure and two trials", n)
		}
		var status *StatusError
		if _, _, err := u.Tags(t.Context(), "app", 0, ""); !errors.As(err, &status) {
			t.Errorf("after the trial: %v", err)
		}
	})
}

// TestBreakerPauseOfACrowd: calls that were under way when the circuit opened
// do not lengthen its pause.
func TestBreakerPauseOfACrowd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fail := make(chan struct{})
		s := &script{steps: []http.HandlerFunc{func(w http.ResponseWriter, _ *http.Request) {
			<-fail
			w.WriteHeader(500)
		}}}
		u, _ := bubble(t, s.ServeHTTP, Options{}, Config{})
		var wg sync.WaitGroup
		for range 5 * breakAfter {
			wg.Go(func() { _, _, _ = u.Tags(t.Context(), "app", 0, "") })
		}
		synctest.Wait()
		close(fail)
		wg.Wait()
		n := s.n.Load()
		time.Sleep(minOpenTime)
		_, _, err := u.Tags(t.Context(), "app", 0, "")
		if s.n.Load() != n+1 {
			t.Errorf("not asked after %s: %v", minOpenTime, err)
		}
	})
}

// TestBreakerCountsAHandshakeOnce: a crowd that waits for one failed handshake
// is one failure.
func TestBreakerCountsAHandshakeOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u, p := bubble(t, answer(404), Options{}, Config{})
		p.down.Store(true)
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				_, err := u.client(t.Context(), "app")
				if err == nil {
					t.Error("connected")
				}
			})
		}
		wg.Wait()
		if dials := int(p.dials.Load()); u.breaker.failures != dials || dials >= breakAfter {
			t.Errorf("%d failures for %d connections", u.breaker.failures, dials)
		}
	})
}

func TestBreakerOpensOnRefusedConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u, p := bubble(t, answer(404), Options{}, Config{})
		p.down.Store(true)
		for range 5 {
			_, _, _ = u.Tags(t.Context(), "app", 0, "")
		}
		if n := p.dials.Load(); n != breakAfter {
			t.Errorf("%d connections in five calls, want %d", n, breakAfter)
		}
	})
}

func TestBreakerOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{steps: []http.HandlerFunc{answer(500)}}
		u, _ := bubble(t, s.ServeHTTP, Options{BreakAfter: -1}, Config{})
		for range 20 {
			_, _, _ = u.Tags(t.Context(), "app", 0, "")
		}
		if n := s.n.Load(); n != 20 {
			t.Errorf("%d requests, want 20", n)
		}
	})
}

func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{steps: []http.HandlerFunc{answer(200, "Docker-Content-Digest", godigest.FromString("x").String())}}
		u, _ := bubble(t, s.ServeHTTP, Options{}, Config{Budget: Budget{Requests: 2, Per: time.Minute}})
		resolve := func() error {
			_, err := u.Resolve(t.Context(), "app", "1", "")
			return err
		}
		for range 2 {
			if err := resolve(); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(20 * time.Second)
		var status *StatusError
		if err := resolve(); !errors.As(err, &status) || status.Status != 429 || status.RetryAfter != 40*time.Second || status.Code != "TOOMANYREQUESTS" {
			t.Errorf("beyond the budget: %#v", err)
		}
		if _, err := u.Manifest(t.Context(), "app", "1"); !errors.As(err, &status) || status.Status != 429 {
			t.Errorf("GET beyond the budget: %v", err)
		}
		if n := s.n.Load(); n != 2 {
			t.Errorf("%d requests reached the upstream, want 2", n)
		}
		body, _, err := u.Blob(t.Context(), "app", godigest.FromString("x"), 0, -1)
		if err != nil {
			t.Fatalf("a blob is no manifest: %v", err)
		}
		_ = body.Close()
		time.Sleep(40 * time.Second)
		if err := resolve(); err != nil {
			t.Errorf("in the next window: %v", err)
		}
	})
}

func TestRateLimitIsTold(t *testing.T) {
	type told struct {
		limit, remaining int
		per              time.Duration
	}
	for _, tt := range []struct {
		name      string
		limit     string
		remaining string
		status    int
		want      *told
	}{
		{"Docker Hub", "100;w=21600", "76;w=21600", 404, &told{100, 76, 6 * time.Hour}},
		{"refused", "100;w=21600", "0;w=21600", 429, &told{100, 0, 6 * time.Hour}},
		{"no window", "200", "199", 404, &told{200, 199, 0}},
		{"none", "", "", 404, nil},
		{"half", "100;w=21600", "", 404, nil},
		{"nonsense", "many", "-4;w=1", 404, nil},
		{"absurd window", "100;w=99999999999", "1;w=-1", 404, &told{100, 1, 0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var got *told
				u, _ := bubble(t, answer(tt.status, "ratelimit-limit", tt.limit, "ratelimit-remaining", tt.remaining), Options{
					RateLimit: func(name string, limit, remaining int, per time.Duration) {
						if name != "up" {
							t.Errorf("told of %q", name)
						}
						got = &told{limit, remaining, per}
					},
				}, Config{})
				_, _ = u.Resolve(t.Context(), "app", "1", "")
				if (got == nil) != (tt.want == nil) || got != nil && *got != *tt.want {
					t.Errorf("told %v, want %v", got, tt.want)
				}
			})
		})
	}
}

func FuzzQuota(f *testing.F) {
	for _, s := range []string{"100;w=21600", "0", "-1", "5;w=;w=3", ";", "100, 100;w=60", "9999999999999999999;w=9999999999999999999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, per, ok := quota(s)
		if n < 0 || per < 0 || per > maxWindow*time.Second || !ok && (n != 0 || per != 0) {
			t.Errorf("quota(%q) = %d, %s, %v", s, n, per, ok)
		}
	})
}
