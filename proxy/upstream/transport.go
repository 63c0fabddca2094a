package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

const (
	dialTimeout      = 10 * time.Second
	headerTimeout    = 30 * time.Second
	handshakeTimeout = 30 * time.Second // ping and token exchange together
	maxHeader        = 64 << 10         // bytes of a response's header
	maxRedirects     = 5
)

// newTransport returns a transport that dials only what rule lets it.
func newTransport(rule func(netip.AddrPort) error) *http.Transport {
	return guarded(&guard{rule: rule, proxy: http.ProxyFromEnvironment})
}

func guarded(g *guard) *http.Transport {
	return &http.Transport{
		Proxy:                  g.proxyFor,
		DialContext:            g.dial,
		TLSHandshakeTimeout:    dialTimeout,
		ResponseHeaderTimeout:  headerTimeout,
		MaxResponseHeaderBytes: maxHeader,
		ExpectContinueTimeout:  time.Second,
		IdleConnTimeout:        90 * time.Second,
		MaxIdleConns:           256,
		MaxIdleConnsPerHost:    32,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true, // digests cover the bytes as sent
	}
}

// steer keeps every request of an upstream on the roads that it may take: the
// pulls, and also the ping and token requests that the registry library makes
// with HTTP clients of its own. So the rules stand here and not in a
// CheckRedirect. What it refuses is a *ContentError.
type steer struct {
	scheme, host string // as configured
	allowPrivate bool
	inner        http.RoundTripper
}

func (s *steer) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := s.refuse(r); err != nil {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, err
	}
	h, heard := r.Context().Value(heardKey{}).(*heard)
	if heard && r.Response != nil && r.URL.Host != s.host {
		h.sentOn.Store(true)
	}
	resp, err := s.inner.RoundTrip(r)
	if heard && err == nil && resp.StatusCode >= http.StatusBadRequest {
		h.retryAfter.Store(int64(retryAfter(resp.Header.Get("Retry-After"))))
	}
	return resp, err
}

func (s *steer) refuse(r *http.Request) error {
	hops := 0
	for prev := r.Response; prev != nil && prev.Request != nil; prev = prev.Request.Response {
		if hops++; hops > maxRedirects {
			return &ContentError{Reason: fmt.Sprintf("redirects more than %d times", maxRedirects)}
		}
	}
	switch downgrade := r.URL.Scheme == "http" && (s.scheme == "https" || hops > 0 && r.Response.Request.URL.Scheme == "https"); {
	case downgrade && hops > 0:
		return &ContentError{Reason: fmt.Sprintf("redirects to %s without TLS", r.URL.Host)}
	case r.URL.Host == s.host && r.URL.Scheme != s.scheme: // the registry library tries both for some hosts
		return fmt.Errorf("%s is configured for %s only", s.host, s.scheme)
	case downgrade:
		return &ContentError{Reason: fmt.Sprintf("leads to %s without TLS", r.URL.Host)}
	case hops > 0 && r.Body != nil && r.Header.Get("Content-Type") == "application/x-www-form-urlencoded" && r.URL.Host != r.Response.Request.URL.Host:
		return &ContentError{Reason: fmt.Sprintf("redirects the token request, whose body holds credentials, to %s", r.URL.Host)}
	}
	if kind := literal(r.URL.Hostname()); kind != "" && (!s.allowPrivate || kind == cloudMetadata) {
		return private(r.URL.Hostname(), kind, s.allowPrivate)
	}
	return nil
}

// heard keeps of the answers to a call what the registry library drops when it
// makes an error of them. It travels in the context of the requests.
type heard struct {
	retryAfter atomic.Int64 // of the last refusal, a time.Duration
	sentOn     atomic.Bool  // the upstream answered with a redirect to another host
}

type heardKey struct{}

// tell adds what was heard to an error of the registry library.
func (h *heard) tell(u *Upstream, err error) error {
	var te *transport.Error
	if errors.As(err, &te) {
		return u.status("", te, time.Duration(h.retryAfter.Load()))
	}
	return err
}

// hear returns a context whose requests report to the heard returned.
func hear(ctx context.Context) (context.Context, *heard) {
	h := new(heard)
	return context.WithValue(ctx, heardKey{}, h), h
}
