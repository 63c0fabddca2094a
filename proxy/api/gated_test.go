package api_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sluiceproxy/sluice/proxy/api"
	"github.com/sluiceproxy/sluice/proxy/gate"
	"github.com/sluiceproxy/sluice/proxy/local"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/records"
	"github.com/sluiceproxy/sluice/proxy/upstream"
)

var denial = policy.Verdict{ID: "v-1", Decision: policy.Deny, Image: "local/prod/app", Digest: digest, Reasons: []policy.Reason{
	{Rule: "high", Action: policy.Deny, Message: "libvictim is vulnerable"},
}}

// judge knows images by what becomes of them.
func (s *state) judge(image string, p ocispec.Platform) (string, api.JudgeFunc, error) {
	if image == "nowhere.example/app" {
		return "", nil, &api.Problem{Status: http.StatusUnprocessableEntity, Detail: "unknown registry"}
	}
	return "canonical/" + image, func(context.Context) (godigest.Digest, policy.Verdict, error) {
		switch image {
		case "denied":
			return digest, denial, nil
		case "missing":
			return "", policy.Verdict{}, &upstream.StatusError{Op: "manifest 1", Status: http.StatusNotFound, Message: "no such tag"}
		case "broken":
			return "", policy.Verdict{}, errors.New("the password is hunter2")
		case "other":
			return digest, policy.Verdict{}, &gate.PlatformError{Want: p.OS + "/" + p.Architecture, Have: []string{"linux/amd64"}}
		}
		return digest, policy.Verdict{ID: "v-2", Decision: policy.Allow, Image: image, Digest: digest}, nil
	}, nil
}

func (s *state) collect(ctx context.Context, dryRun bool, by string) (local.Garbage, error) {
	s.by = by
	time.Sleep(s.works)
	if err := ctx.Err(); err != nil {
		return local.Garbage{}, err
	}
	return local.Garbage{Bytes: map[bool]int64{true: 1, false: 2}[dryRun]}, s.err
}

func (s *state) promote(_ context.Context, from, _, by string) (gate.Pushed, error) {
	s.by = by
	switch from {
	case "local/denied":
		return gate.Pushed{}, fmt.Errorf("promote: %w", &policy.DeniedError{Verdict: denial})
	case "local/pending":
		return gate.Pushed{}, &gate.PendingError{Reason: "no verdict yet"}
	case "local/missing":
		return gate.Pushed{}, gate.ErrManifestUnknown
	case "local/moved":
		return gate.Pushed{}, fmt.Errorf("1.2: %w", records.ErrImmutable)
	case "local/full":
		return gate.Pushed{}, &records.QuotaError{Prefix: "local/prod/", Used: 1, Most: 1}
	}
	return gate.Pushed{Digest: digest, Verdict: policy.Verdict{ID: "v-3", Decision: policy.Annotate}}, s.err
}

// TestLongWork: what takes minutes is not taken for a client that left.
func TestLongWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, conn := net.Pipe()
		l := &oneConn{conns: make(chan net.Conn, 1)}
		l.conns <- conn
		srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: handler(t, &state{works: 5 * time.Minute}, "")}
		go func() { _ = srv.Serve(l) }()
		if _, err := io.WriteString(client, "POST /api/v1/gc HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(client), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		if b, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("status %d, %s, %v", resp.StatusCode, b, err)
		}
		_ = client.Close()
		_ = srv.Close()
	})
}

// oneConn is a listener of what is in conns.
type oneConn struct{ conns chan net.Conn }

func (l *oneConn) Accept() (net.Conn, error) {
	if c, ok := <-l.conns; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}

func (l *oneConn) Close() error {
	close(l.conns)
	return nil
}

func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }

// TestRobots: the secret is shown once, and what is kept is its hash.
func TestRobots(t *testing.T) {
	s := &state{}
	h := handler(t, s, "")
	made := decode[api.Robot](t, call(h, "POST", "/api/v1/robots", `{"name":"ci","owner":"team","expires":"2027-01-01T00:00:00Z"}`, api.OperatorHeader, "alice"), 201)
	if len(made.Secret) < 50 || made.State != "active" || made.Owner != "team" {
		t.Errorf("made %+v", made)
	}
	if s.robots[0].Hash != sha256.Sum256([]byte(made.Secret)) || !strings.HasPrefix(s.by, "alice from ") {
		t.Errorf("kept %+v by %q", s.robots[0], s.by)
	}
	again := decode[api.Robot](t, call(h, "POST", "/api/v1/robots", `{"name":"ci2","expires":"2026-01-01T00:00:00Z"}`), 201)
	if again.Secret == made.Secret || again.State != "expired" {
		t.Errorf("the second: %+v", again)
	}
	w := call(h, "GET", "/api/v1/robots", "")
	if strings.Contains(w.Body.String(), made.Secret) {
		t.Error("the list shows a secret")
	}
	if list := decode[api.Robots](t, w, 200); len(list.Items) != 2 || list.Items[0].Name != "ci" {
		t.Errorf("list %+v", list)
	}
	problem(t, call(h, "POST", "/api/v1/robots", `{"name":"ci","secret":"mine"}`), 400)
	if w := call(h, "DELETE", "/api/v1/robots/ci", ""); w.Code != http.StatusNoContent || len(s.robots) != 1 {
		t.Errorf("remove: %d, %d are left", w.Code, len(s.robots))
	}
	problem(t, call(h, "DELETE", "/api/v1/robots/ci", ""), 404)
}

func TestCollect(t *testing.T) {
	s := &state{}
	h := handler(t, s, "")
	for query, bytes := range map[string]int64{"?dry_run=true": 1, "?dry_run=false": 2, "": 2} {
		if g := decode[local.Garbage](t, call(h, "POST", "/api/v1/gc"+query, ""), 200); g.Bytes != bytes {
			t.Errorf("%q: %+v", query, g)
		}
	}
	problem(t, call(h, "POST", "/api/v1/gc?dry_run=maybe", ""), 400)
	problem(t, call(h, "POST", "/api/v1/gc?dryrun=true", ""), 400)
}

func TestPromote(t *testing.T) {
	h := handler(t, &state{}, "")
	p := decode[api.Promotion](t, call(h, "POST", "/api/v1/promotions", `{"from":"local/a","to":"local/b:1"}`), 201)
	if p.Digest != digest || p.Verdict.ID != "v-3" || p.To != "local/b:1" {
		t.Errorf("promoted %+v", p)
	}
	for from, status := range map[string]int{
		"local/denied": 403, "local/pending": 503, "local/missing": 404, "local/moved": 409, "local/full": 507,
	} {
		got := problem(t, call(h, "POST", "/api/v1/promotions", `{"from":"`+from+`","to":"local/b:1"}`), status)
		if denied := status == 403; denied != (got.Verdict == "v-1") || denied != strings.Contains(got.Detail, "libvictim") {
			t.Errorf("%s: %+v", from, got)
		}
	}
}

func TestScans(t *testing.T) {
	h := handler(t, &state{}, "")
	for image, want := range map[string]struct{ state, says string }{
		"docker.io/library/nginx": {api.ScanDone, ""},
		"denied":                  {api.ScanDone, "libvictim"},
		"missing":                 {api.ScanFailed, "no such tag"},
		"other":                   {api.ScanFailed, "linux/arm64"},
		"broken":                  {api.ScanFailed, "internal error"},
	} {
		w := call(h, "POST", "/api/v1/scans", `{"image":"`+image+`","platform":"linux/arm64"}`)
		started := decode[api.Scan](t, w, 202)
		if at := w.Header().Get("Location"); at != "/api/v1/scans/"+started.ID {
			t.Errorf("Location %q", at)
		}
		got := decode[api.Scan](t, call(h, "GET", "/api/v1/scans/"+started.ID, ""), 200)
		says := got.Error
		if got.Verdict != nil {
			says = got.Verdict.Summary
		}
		if got.Image != "canonical/"+image || got.State != want.state || !strings.Contains(says, want.says) || (got.Verdict == nil) != (want.state == api.ScanFailed) || strings.Contains(says, "hunter2") {
			t.Errorf("%s: %+v", image, got)
		}
	}
	problem(t, call(h, "POST", "/api/v1/scans", `{"image":"nowhere.example/app"}`), 422)
	problem(t, call(h, "POST", "/api/v1/scans", `{"image":""}`), 422)
	problem(t, call(h, "POST", "/api/v1/scans", `{"image":"x","platform":"amd64"}`), 422)
	problem(t, call(h, "GET", "/api/v1/scans/s-none", ""), 404)
	if list := decode[api.Scans](t, call(h, "GET", "/api/v1/scans", ""), 200); len(list.Items) != 5 {
		t.Errorf("%d scans", len(list.Items))
	}
}

// TestScansAreBounded: finished ones make room, those under way do not.
func TestScansAreBounded(t *testing.T) {
	s := &state{}
	for _, tt := range []struct {
		name string
		run  func(func(context.Context))
		want int
	}{
		{"finished", func(work func(context.Context)) { work(t.Context()) }, http.StatusAccepted},
		{"under way", func(func(context.Context)) {}, http.StatusTooManyRequests},
	} {
		h := api.New(api.Deps{Records: s, Judge: s.judge, Go: tt.run, Now: func() time.Time { return now }})
		for range 256 {
			decode[api.Scan](t, call(h, "POST", "/api/v1/scans", `{"image":"a"}`), 202)
		}
		if w := call(h, "POST", "/api/v1/scans", `{"image":"a"}`); w.Code != tt.want {
			t.Errorf("%s: the 257th is answered %d, want %d", tt.name, w.Code, tt.want)
		}
		if list := decode[api.Scans](t, call(h, "GET", "/api/v1/scans", ""), 200); len(list.Items) != 256 {
			t.Errorf("%s: %d are remembered", tt.name, len(list.Items))
		}
	}
}

func TestNoGatedRegistry(t *testing.T) {
	h := api.New(api.Deps{Records: &state{}})
	problem(t, call(h, "POST", "/api/v1/gc", ""), 404)
	problem(t, call(h, "POST", "/api/v1/promotions", `{"from":"local/a","to":"local/b:1"}`), 404)
}
