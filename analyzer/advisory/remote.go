package advisory

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// remote is a Base behind HTTP. Archives are downloaded whole before anything
// of them is read.
type remote struct {
	base *url.URL
	feed *feed
}

var (
	errStalled  = errors.New("nothing was received for too long")
	errRedirect = errors.New("redirect refused")
)

// newClient is used where the caller gives none: proxies from the environment,
// time-outs on every step before the body, and redirects to http and https only.
func newClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: 15 * time.Second}).DialContext,
			TLSHandshakeTimeout:   15 * time.Second,
			ResponseHeaderTimeout: 30 * time.Second,
			IdleConnTimeout:       30 * time.Second,
			ForceAttemptHTTP2:     true,
		},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if r.URL.Scheme != "http" && r.URL.Scheme != "https" {
				return fmt.Errorf("%w: redirect to scheme %q", errRedirect, r.URL.Scheme)
			}
			if len(via) > 0 && via[0].URL.Scheme == "https" && r.URL.Scheme != "https" {
				return fmt.Errorf("%w: from https to http", errRedirect)
			}
			if len(via) >= 5 {
				return fmt.Errorf("%w: more than 5", errRedirect)
			}
			return nil
		},
	}
}

// redact returns a URL without its password, for messages.
func redact(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return "(unreadable URL)"
	}
	if u.RawQuery != "" {
		u.RawQuery = "…"
	}
	return u.Redacted()
}

func (r *remote) ecosystems(ctx context.Context) ([]string, error) {
	in, err := r.feed.get(ctx, r.base.JoinPath("ecosystems.txt"), 1<<20, false, func(int64, int64) {})
	var status *statusError
	if errors.As(err, &status) && status.code == http.StatusNotFound || errors.Is(err, errNotKept) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer in.close()
	out, err := readEcosystems(in.f)
	if err != nil {
		r.feed.spoiled(in)
	}
	return out, err
}

func (r *remote) archive(ctx context.Context, eco string, progress func(done, total int64)) (*input, error) {
	return r.feed.get(ctx, r.base.JoinPath(url.PathEscape(eco), "all.zip"), r.feed.limits.Archive, false, progress)
}

// statusError is an answer other than those that were asked for.
type statusError struct {
	url   string
	code  int
	after time.Duration // Retry-After in seconds; 0 = none
}

func (e *statusError) Error() string {
	return fmt.Sprintf("GET %s: %d %s", e.url, e.code, http.StatusText(e.code))
}

// get hands the answer, if it is 200, 206 or 304, and its body to read, and ends
// it when nothing comes for the time of stall.
func get(ctx context.Context, client *http.Client, u *url.URL, stall time.Duration, header http.Header, read func(resp *http.Response, body io.Reader) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(stall, func() { cancel(errStalled) })
	defer watchdog.Stop()
	name := redact(u.String())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return fmt.Errorf("GET %s: %w", name, err)
	}
	req.Header = header
	req.Header.Set("User-Agent", "sluice")
	resp, err := client.Do(req)
	if err != nil {
		// url.Error repeats the address with its query; keep the cause only.
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return fmt.Errorf("GET %s: %w", name, because(ctx, err))
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK, http.StatusPartialContent, http.StatusNotModified:
	default:
		seconds, err := strconv.Atoi(resp.Header.Get("Retry-After"))
		if err != nil || seconds < 0 {
			seconds = 0
		}
		return &statusError{name, resp.StatusCode, time.Duration(min(seconds, 3600)) * time.Second}
	}
	if err := read(resp, &watched{resp.Body, watchdog, stall}); err != nil {
		return fmt.Errorf("GET %s: %w", name, because(ctx, err))
	}
	return nil
}

// because prefers the reason for which a context was cancelled.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// watched puts the watchdog off with every read.
type watched struct {
	r        io.Reader
	watchdog *time.Timer
	stall    time.Duration
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if n > 0 {
		w.watchdog.Reset(w.stall)
	}
	return n, err
}

// meter reports how much was read.
type meter struct {
	r           io.Reader
	done, total int64
	progress    func(done, total int64)
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.done += int64(n)
	m.progress(m.done, m.total)
	return n, err
}
