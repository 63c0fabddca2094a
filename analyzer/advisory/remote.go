package advisory

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"
)

// remote is a Base behind HTTP. Archives are downloaded to temporary files,
// whole, before anything of them is read.
type remote struct {
	base   *url.URL
	tmp    string
	client *http.Client
	limits Limits
}

var errStalled = errors.New("nothing was received for too long")

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
				return fmt.Errorf("redirect to scheme %q", r.URL.Scheme)
			}
			if len(via) > 0 && via[0].URL.Scheme == "https" && r.URL.Scheme != "https" {
				return errors.New("redirect from https to http")
			}
			if len(via) >= 5 {
				return errors.New("more than 5 redirects")
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
	var out []string
	err := get(ctx, r.client, r.base.JoinPath("ecosystems.txt"), r.limits.Stall, func(body io.Reader, _ int64) (err error) {
		out, err = readEcosystems(body)
		return err
	})
	var status *statusError
	if errors.As(err, &status) && status.code == http.StatusNotFound {
		return nil, nil
	}
	return out, err
}

func (r *remote) archive(ctx context.Context, eco string, progress func(done, total int64)) (*os.File, func(), error) {
	f, err := os.CreateTemp(r.tmp, tempPrefix+"archive-*")
	if err != nil {
		return nil, nil, err
	}
	drop := func() {
		f.Close()
		os.Remove(f.Name())
	}
	u := r.base.JoinPath(url.PathEscape(eco), "all.zip")
	err = get(ctx, r.client, u, r.limits.Stall, func(body io.Reader, total int64) error {
		if total > r.limits.Archive {
			return fmt.Errorf("larger than the limit of %d bytes", r.limits.Archive)
		}
		n, err := io.Copy(f, io.LimitReader(&meter{r: body, total: total, progress: progress}, r.limits.Archive+1))
		switch {
		case err != nil:
			return err
		case n > r.limits.Archive:
			return fmt.Errorf("larger than the limit of %d bytes", r.limits.Archive)
		case total >= 0 && n != total:
			return fmt.Errorf("%d bytes of %d: %w", n, total, io.ErrUnexpectedEOF)
		}
		return nil
	})
	if err != nil {
		drop()
		return nil, nil, err
	}
	return f, drop, nil
}

// statusError is an answer other than 200.
type statusError struct {
	url  string
	code int
}

func (e *statusError) Error() string {
	return fmt.Sprintf("GET %s: %d %s", e.url, e.code, http.StatusText(e.code))
}

// get hands the body of a 200 answer to read, and ends it when nothing comes
// for the time of stall.
func get(ctx context.Context, client *http.Client, u *url.URL, stall time.Duration, read func(body io.Reader, total int64) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(stall, func() { cancel(errStalled) })
	defer watchdog.Stop()
	name := redact(u.String())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return fmt.Errorf("GET %s: %w", name, err)
	}
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
	if resp.StatusCode != http.StatusOK {
		return &statusError{name, resp.StatusCode}
	}
	if err := read(&watched{resp.Body, watchdog, stall}, resp.ContentLength); err != nil {
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
