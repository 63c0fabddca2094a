package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"syscall"
	"time"
)

const (
	maxTries   = 3
	retryPause = 250 * time.Millisecond // longest before the second try, doubled for each further one
	patience   = 2 * time.Second        // a longer Retry-After is the caller's to wait for
)

// The kinds of requests, as Options.Observe gets them.
const (
	kindManifest  = "manifest"
	kindBlob      = "blob"
	kindTags      = "tags"
	kindReferrers = "referrers"
	kindToken     = "token"
)

// request is one question, a GET or HEAD.
type request struct {
	method string
	repo   string
	kind   string
	op     string // for errors: "manifest library/nginx:1.27"
	path   string // below /v2/<repo>, with the query
	header map[string]string
	want   []int // statuses that are answers; 200 if empty
}

// do asks until there is an answer that read takes, one that another try would
// not change, or no try left: three tries in all, with pauses of full jitter,
// within ctx's deadline. read owns the response's body.
func (u *Upstream) do(ctx context.Context, rq request, read func(*http.Response) error) error {
	var last error
	for try := 1; ; try++ {
		leave, err := u.enter(rq)
		if err != nil {
			if last != nil {
				return last // the upstream's own word goes before ours
			}
			return err
		}
		last = u.attempt(ctx, rq, read)
		leave()
		if last == nil || ctx.Err() != nil {
			return last
		}
		least, ok := again(rq.kind, try, last)
		if !ok || !sleep(ctx, max(least, rand.N(retryPause<<(try-1)))) {
			return last
		}
	}
}

// enter asks the breaker and the budget. Their refusals are no answers of the
// upstream: nothing was sent.
func (u *Upstream) enter(rq request) (leave func(), err error) {
	leave, err = u.breaker.enter()
	if err != nil {
		return nil, &UnreachableError{Upstream: u.name, Op: rq.op, Err: err}
	}
	if rq.kind != kindManifest {
		return leave, nil
	}
	if wait, ok := u.budget.take(); !ok {
		leave()
		return nil, &StatusError{
			Upstream: u.name, Op: rq.op, Status: http.StatusTooManyRequests, Code: "TOOMANYREQUESTS", RetryAfter: wait,
			Message: fmt.Sprintf("Sluice's own budget for this upstream is spent: %d manifest requests in %s", u.budget.Requests, u.budget.Per),
		}
	}
	return leave, nil
}

// attempt sends the request once.
func (u *Upstream) attempt(ctx context.Context, rq request, read func(*http.Response) error) error {
	c, err := u.client(ctx, rq.repo)
	if err != nil { // authorize has told the breaker, once for all who waited
		return u.wrap(ctx, rq.op, err)
	}
	hctx, heard := hear(ctx)
	err = u.send(hctx, c, rq, heard, read)
	if heard.sentOn.Load() { // what failed then is another host's fault: the upstream lives
		u.breaker.record(nil)
	} else {
		u.breaker.record(err)
	}
	return err
}

func (u *Upstream) send(ctx context.Context, c *http.Client, rq request, heard *heard, read func(*http.Response) error) error {
	rctx, cancel := context.WithCancel(ctx)
	req, err := http.NewRequestWithContext(rctx, rq.method, u.base.Scheme+"://"+u.base.Host+"/v2/"+rq.repo+rq.path, nil)
	if err != nil {
		cancel()
		return u.wrap(ctx, rq.op, err)
	}
	for k, v := range rq.header {
		req.Header.Set(k, v)
	}
	resp, err := c.Do(req)
	if err != nil {
		cancel()
		u.observe(u.name, rq.kind, statusOf(err))
		return u.wrap(ctx, rq.op, heard.tell(u, err))
	}
	u.observe(u.name, rq.kind, resp.StatusCode)
	if limit, remaining, per, ok := rateLimit(resp.Header); ok {
		u.rateLimit(u.name, limit, remaining, per)
	}
	resp.Body = u.newBody(resp.Body, rq.op, cancel)
	if err := u.check(rq.op, resp, rq.want...); err != nil {
		return err
	}
	return read(resp)
}

// again reports whether another try may help after try tries, and how long to
// wait for it at least. Where the answer is no:
//   - statuses other than 502, 503 and 504, and 429 that is over soon;
//   - time-outs, which have used up the time, certificates and names that do
//     not exist, which stay as they are;
//   - blobs, which package fetch resumes; only a connection that is reset
//     before the header is tried once more.
func again(kind string, try int, err error) (least time.Duration, ok bool) {
	var (
		status      *StatusError
		unreachable *UnreachableError
	)
	switch {
	case try >= maxTries:
	case kind == kindBlob:
		return 0, try == 1 && errors.As(err, &unreachable) && reset(err)
	case errors.As(err, &status):
		switch status.Status {
		case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			return status.RetryAfter, status.RetryAfter <= patience
		case http.StatusTooManyRequests:
			return status.RetryAfter, status.RetryAfter > 0 && status.RetryAfter <= patience
		}
	case errors.As(err, &unreachable):
		return 0, !lasting(err)
	}
	return 0, false
}

func reset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// lasting reports whether a failed connection would fail again, or fail too late.
func lasting(err error) bool {
	var (
		timeout net.Error
		cert    *tls.CertificateVerificationError
		dns     *net.DNSError
	)
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() ||
		errors.As(err, &cert) || errors.As(err, &dns) && dns.IsNotFound
}

// sleep waits, unless ctx ends before.
func sleep(ctx context.Context, d time.Duration) bool {
	if end, ok := ctx.Deadline(); ok && time.Until(end) <= d {
		return false
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
