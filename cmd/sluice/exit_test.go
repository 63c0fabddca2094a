package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/analyzer/report"
	"github.com/sluiceproxy/sluice/configs"
	"github.com/sluiceproxy/sluice/proxy/api"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

func TestExitCode(t *testing.T) {
	interrupted, cancel := context.WithCancelCause(t.Context())
	cancel(errInterrupted)
	for _, tt := range []struct {
		name string
		ctx  context.Context
		err  error
		want int
	}{
		{"none", t.Context(), nil, 0},
		{"cobra's own", t.Context(), errors.New("unknown flag"), 2},
		{"of a command", t.Context(), coded(errors.New("disk full")), 3},
		{"configuration", t.Context(), coded(fmt.Errorf("x: %w", configs.Problems{{Message: "m"}})), 2},
		{"policy file", t.Context(), coded(fmt.Errorf("x: %w", policy.Problems{{Message: "m"}})), 2},
		{"usage", t.Context(), coded(usageError(errors.New("m"))), 2},
		{"denied", t.Context(), coded(decided(policy.Deny)), 1},
		{"pending", t.Context(), decided(policy.Pending), 3},
		{"undecided", t.Context(), decided(policy.Undecided), 3},
		{"unknown decision", t.Context(), decided(policy.Decision(99)), 3},
		{"annotated", t.Context(), decided(policy.Annotate), 0},
		{"interrupted", interrupted, coded(fmt.Errorf("get: %w", context.Canceled)), 130},
		{"cause of an interruption", interrupted, coded(fmt.Errorf("get: %w", errInterrupted)), 130},
		{"cancelled for another reason", t.Context(), coded(context.Canceled), 3},
		{"error after an interruption", interrupted, coded(errors.New("disk full")), 3},
	} {
		if got := exitCode(tt.ctx, tt.err); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

// TestInterrupt sends SIGINT to a real process while it waits for a registry.
func TestInterrupt(t *testing.T) {
	asked := make(chan struct{}, 10)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-r.Context().Done()
	}))
	t.Cleanup(srv.Close)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, self)
	cmd.Args = []string{"sluice", "scan", "--data", t.TempDir(), "--upstream", "up=" + srv.URL, "up/acme/shop:1.0"}
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-asked:
	case <-ctx.Done():
		_ = cmd.Wait() // it was killed; its words follow
		t.Fatalf("the registry was not asked: %s", &stderr)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // the code is compared below
	if got := cmd.ProcessState.ExitCode(); got != 130 {
		t.Errorf("exit code %d, want 130: %s", got, &stderr)
	}
}

func TestFailOn(t *testing.T) {
	r := report.New("x", report.Verdict{Reasons: []report.Reason{{Advisory: "waived", Waived: "by web-team"}}}, &analyzer.Report{
		Inventory: analyzer.Inventory{Secrets: []analyzer.Secret{{}}, Incomplete: []analyzer.Incomplete{{}, {}}},
		Matches: analyzer.Matches{Findings: []analyzer.Finding{
			{Advisory: "a", Severity: analyzer.SeverityHigh, KEV: true},
			{Advisory: "b", Severity: analyzer.SeverityLow},
			{Advisory: "waived", Severity: analyzer.SeverityCritical, Class: analyzer.ClassMalware},
			{Advisory: "c", Severity: analyzer.SeverityUnknown},
		}},
	})
	for words, want := range map[string]string{
		"":                      "",
		"critical":              "",
		"high":                  "1 of severity high or worse",
		"High,critical,low":     "2 of severity low or worse",
		"kev":                   "1 kev",
		"malware":               "",
		"secret,incomplete,kev": "1 secret, 2 incomplete, 1 kev",
	} {
		var list []string
		if words != "" {
			list = strings.Split(words, ",")
		}
		f, err := parseFailOn(list)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.failed(&r); got != want {
			t.Errorf("%q: %q, want %q", words, got, want)
		}
	}
	for _, bad := range []string{"unknown", "none", "everything", ""} {
		if _, err := parseFailOn([]string{bad}); exitCode(t.Context(), err) != exitUsage {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestBar(t *testing.T) {
	for _, tt := range []struct {
		done, total int64
		width       int
		want        string
	}{
		{500_000, 1_000_000, 80, "scan  [====================                    ]   50% of 1.0 MB"},
		{2_000_000, 1_000_000, 80, "scan  [========================================]  100% of 1.0 MB"},
		{500_000, 0, 80, "scan  0.5 MB"},
		{500_000, 1_000_000, 20, "scan   50% of 1.0 M"},
		{0, 1, 1, ""},
		{0, -1, 0, ""},
	} {
		if got := bar("scan", tt.done, tt.total, tt.width); got != tt.want {
			t.Errorf("%d of %d in %d: %q, want %q", tt.done, tt.total, tt.width, got, tt.want)
		}
	}
	var b bytes.Buffer
	p := newProgress(&b)
	p.update("scan", 1, 2)
	p.clear()
	if b.Len() > 0 {
		t.Errorf("wrote %q to what is no terminal", &b)
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain … text": "plain … text",
		"a\x1b[2Jb\n":  `a\x1b[2Jb\n`,
		"\u202eevil":   `\u202eevil`,
	} {
		if got := printable(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestExpiry(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for in, want := range map[string]string{
		"72h":                  "2026-11-26T12:00:00Z",
		"2027-01-31":           "2027-02-01T00:00:00Z", // to the end of that day
		"2027-01-31T10:00:00Z": "2027-01-31T10:00:00Z",
		"tomorrow":             "",
		"":                     "",
	} {
		got, err := expiry(in, now)
		if want == "" && err == nil || want != "" && (err != nil || got.Format(time.RFC3339) != want) {
			t.Errorf("%q: %s, %v; want %q", in, got, err, want)
		}
	}
}

// TestAnswers shows that no broken answer of a server passes for a good one.
func TestAnswers(t *testing.T) {
	for _, tt := range []struct {
		status       int
		body, detail string
		ok           bool
	}{
		{200, `{"items":[]}`, "", true},
		{200, `<html>`, "invalid character", false},
		{200, ``, "unexpected end", false},
		{404, `{"status":404,"detail":"gone"}`, "gone", false},
		{502, `<html>`, "502", false},
		{403, `{}`, "403", false},
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(tt.status)
			_, _ = w.Write([]byte(tt.body))
		}))
		c := client{server: srv.URL}
		var out api.Verdicts
		err := c.do(t.Context(), "GET", "/verdicts", nil, nil, &out)
		if (err == nil) != tt.ok || err != nil && !strings.Contains(err.Error(), tt.detail) {
			t.Errorf("%d %q: %v", tt.status, tt.body, err)
		}
		srv.Close()
	}
}
