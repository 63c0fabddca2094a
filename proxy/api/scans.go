package api

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/zap"

	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/upstream"
)

// States of a Scan.
const (
	ScanQueued  = "queued"
	ScanRunning = "running"
	ScanDone    = "done"   // Verdict is set
	ScanFailed  = "failed" // Error is set: there is no verdict
)

// Scan is an image that the server was asked to judge.
type Scan struct {
	ID       string          `json:"id"`
	Image    string          `json:"image"` // canonical reference
	Platform string          `json:"platform"`
	State    string          `json:"state"`
	Digest   godigest.Digest `json:"digest,omitempty"`
	Verdict  *Verdict        `json:"verdict,omitempty"`
	Error    string          `json:"error,omitempty"`
	Created  time.Time       `json:"created"`
	Finished time.Time       `json:"finished,omitzero"`
}

// Scans are those that are remembered, the newest first.
type Scans struct {
	Items []Scan `json:"items"`
}

// scans are in memory and end with the process.
type scans struct {
	slots chan struct{} // one for each that runs

	mu  sync.Mutex
	all []*Scan // the oldest first
}

const (
	maxScans     = 256 // remembered; the oldest finished ones are forgotten
	maxScanning  = 4   // at once
	defaultArch  = "amd64"
	scanRetry    = "10" // seconds
	maxReference = 1024 // bytes
)

// start remembers a scan, or returns nil where too many are under way.
func (s *scans) start(image, platform string, now time.Time) *Scan {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.all) >= maxScans {
		i := slices.IndexFunc(s.all, func(c *Scan) bool { return !c.Finished.IsZero() })
		if i < 0 {
			return nil
		}
		s.all = slices.Delete(s.all, i, i+1)
	}
	c := &Scan{ID: "s-" + strings.ToLower(rand.Text()[:12]), Image: image, Platform: platform, State: ScanQueued, Created: now}
	s.all = append(s.all, c)
	return c
}

// change is how the fields of a scan are written.
func (s *scans) change(c *Scan, f func(*Scan)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(c)
}

// list returns copies, the newest first.
func (s *scans) list() []Scan {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Scan, 0, len(s.all))
	for _, c := range slices.Backward(s.all) {
		out = append(out, *c)
	}
	return out
}

func (s *server) addScan(w http.ResponseWriter, r *http.Request) error {
	if err := newQuery(r).err(); err != nil {
		return err
	}
	var in struct {
		Image    string `json:"image"`
		Platform string `json:"platform"`
	}
	if err := readJSON(r, &in); err != nil {
		return err
	}
	platform, err := parsePlatform(in.Platform)
	var errs []FieldError
	if err != nil {
		errs = append(errs, FieldError{"platform", err.Error()})
	}
	if in.Image == "" || len(in.Image) > maxReference {
		errs = append(errs, FieldError{"image", fmt.Sprintf("a reference of 1 to %d bytes is wanted", maxReference)})
	}
	if err := invalid(errs, http.StatusUnprocessableEntity); err != nil {
		return err
	}
	image, judge, err := s.Judge(in.Image, platform)
	if err != nil {
		return err
	}
	c := s.scanning.start(image, platform.OS+"/"+platform.Architecture, s.Now())
	if c == nil {
		w.Header().Set("Retry-After", scanRetry)
		return &Problem{Status: http.StatusTooManyRequests, Detail: fmt.Sprintf("%d scans are under way", maxScans)}
	}
	w.Header().Set("Location", Prefix+"/scans/"+c.ID)
	started := *c
	s.Go(func(ctx context.Context) { s.scan(ctx, c, judge) })
	return writeJSON(w, http.StatusAccepted, started)
}

// scan runs one, when it is its turn.
func (s *server) scan(ctx context.Context, c *Scan, judge JudgeFunc) {
	var (
		d   godigest.Digest
		v   policy.Verdict
		err error
	)
	select {
	case s.scanning.slots <- struct{}{}:
		s.scanning.change(c, func(c *Scan) { c.State = ScanRunning })
		d, v, err = judge(ctx)
		<-s.scanning.slots
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	s.scanning.change(c, func(c *Scan) {
		c.Digest, c.Finished = d, s.Now()
		if err == nil {
			c.State, c.Verdict = ScanDone, &Verdict{v, v.Summary()}
			return
		}
		c.State, c.Error = ScanFailed, s.scanError(ctx, c, err)
	})
}

// scanError is what the client is told. What is nobody's fault outside is logged.
func (s *server) scanError(ctx context.Context, c *Scan, err error) string {
	var (
		status      *upstream.StatusError
		unreachable *upstream.UnreachableError
		content     *upstream.ContentError
	)
	p := fromGate(err)
	switch {
	case p != nil:
		return p.Detail
	case errors.As(err, &status):
		return status.Error()
	case errors.As(err, &unreachable):
		return unreachable.Error()
	case errors.As(err, &content):
		return content.Error()
	case ctx.Err() != nil:
		return "the server stopped; ask again"
	}
	s.Log.Error("scan failed", zap.String("scan", c.ID), zap.String("reference", c.Image), zap.Error(err))
	return "internal error; the log has the cause under " + c.ID
}

// parsePlatform reads os/arch[/variant]; "" is linux/amd64.
func parsePlatform(text string) (ocispec.Platform, error) {
	parts := strings.Split(cmp.Or(text, "linux/"+defaultArch), "/")
	if len(parts) < 2 || len(parts) > 3 || slices.Contains(parts, "") {
		return ocispec.Platform{}, fmt.Errorf("%q is not os/arch[/variant]", text)
	}
	p := ocispec.Platform{OS: parts[0], Architecture: parts[1]}
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	return p, nil
}

func (s *server) scans(w http.ResponseWriter, r *http.Request) error {
	if err := newQuery(r).err(); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, Scans{Items: s.scanning.list()})
}

func (s *server) oneScan(w http.ResponseWriter, r *http.Request) error {
	if err := newQuery(r).err(); err != nil {
		return err
	}
	for _, c := range s.scanning.list() {
		if c.ID == r.PathValue("id") {
			return writeJSON(w, http.StatusOK, c)
		}
	}
	return &Problem{Status: http.StatusNotFound, Detail: "there is no such scan; those of before the last start of the server are forgotten"}
}
