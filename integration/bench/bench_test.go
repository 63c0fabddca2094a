//go:build linux

package main

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestMedianAndRatio(t *testing.T) {
	for _, tt := range []struct {
		in   []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 2, 9}, 3}} {
		if got := median(tt.in); got != tt.want {
			t.Errorf("median(%v) = %v, want %v", tt.in, got, tt.want)
		}
	}
	if got := ratio([]float64{10, 90, 8}, []float64{5, 9, 8}); got != 2 {
		t.Errorf("ratio = %v, want 2: the median of the rounds' ratios", got)
	}
	if got := ratio([]float64{1}, nil); got != 0 {
		t.Errorf("ratio without the other side = %v, want 0", got)
	}
}

func TestTurns(t *testing.T) {
	var order []int
	out, err := turns(3, 2, func(side int) (int, error) {
		order = append(order, side)
		return len(order), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{0, 1, 1, 0, 0, 1}, order); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([][]int{{1, 4, 5}, {2, 3, 6}}, out); diff != "" {
		t.Error(diff)
	}
}

func TestTable(t *testing.T) {
	got := table([]row{
		{what: "a", sluice: "10 s", peer: "5 s", value: 2, unit: "×", goal: most(1.05)},
		{what: "b", value: 7, unit: "×", goal: least(5)},
		{what: "c", unit: "×", goal: least(5)},
		{what: "d", value: 123.4, unit: " MB"},
	})
	want := []string{
		"| a | 10 s | 5 s | 2× | ≤ 1.05× | **no** |  |",
		"| b |  |  | 7× | ≥ 5× | yes |  |",
		"| c |  |  | not measured | ≥ 5× | **no** |  |",
		"| d |  |  | 123 MB |  |  |  |",
	}
	if diff := cmp.Diff(want, strings.Split(strings.TrimSpace(got), "\n")[2:]); diff != "" {
		t.Error(diff)
	}
}

func TestReplace(t *testing.T) {
	page := filepath.Join(t.TempDir(), "page.md")
	if err := os.WriteFile(page, []byte("before\n"+begin+"old\n"+end+"after\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the marks stay
		if err := replace(page, "new\n"); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("before\n"+begin+"new\n"+end+"after\n", string(got)); diff != "" {
		t.Error(diff)
	}
	if err := replace(filepath.Join("..", "..", "README.md"), "new"); err == nil {
		t.Error("a page without marks was written")
	}
	if err := os.WriteFile(page, []byte(end+begin), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := replace(page, "new"); err == nil {
		t.Error("a page with marks in the wrong order was written")
	}
}

func TestParseBench(t *testing.T) {
	got := parseBench([]byte("goos: linux\nBenchmarkMatch/alma9-2   \t 100\t 2000000 ns/op\t 400.0 packages\n" +
		"BenchmarkOpen \t 5\t 9 ns/op\n--- SKIP: BenchmarkCompile-2\nBenchmarkOdd\nPASS\n"))
	want := map[string]metrics{"Match/alma9": {"ns/op": 2e6, "packages": 400}, "Open": {"ns/op": 9}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestParseStat(t *testing.T) {
	got, err := parseStat([]byte("12 (a ) (b) S 7 12 12 0 -1 4194560 1 2 3 4 100 20 3 4 20 0 9 0 5 6 7\n"))
	if err != nil || got != (process{pid: 12, parent: 7, ticks: 127}) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"", "12 (a) S 7", "x (a) S 7 12 12 0 -1 4194560 1 2 3 4 100 20 3 4", ") ("} {
		if _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

// TestFamily finds this process below its parent.
func TestFamily(t *testing.T) {
	all, err := family(os.Getppid())
	if err != nil || !slices.ContainsFunc(all, func(p process) bool { return p.pid == os.Getpid() }) {
		t.Errorf("%+v, %v: this test is not in it", all, err)
	}
	if _, err := family(-1); err == nil {
		t.Error("a process that is not there has a family")
	}
}

// TestWatch: a child counts, also one that has ended since.
func TestWatch(t *testing.T) {
	alone, err := resident(os.Getpid())
	if err != nil || alone < 1<<20 {
		t.Fatalf("%d bytes, %v", alone, err)
	}
	const large = 64 << 20
	child := exec.CommandContext(t.Context(), "tail", "-c", strconv.Itoa(large)) // which it keeps until the end of its input
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	stop := (&server{cmd: &exec.Cmd{Process: &os.Process{Pid: os.Getpid()}}}).watch()
	piece := make([]byte, 64<<10)
	for range large / len(piece) {
		if _, err := in.Write(piece); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(200 * time.Millisecond)
	if err := errors.Join(in.Close(), child.Wait()); err != nil {
		t.Fatal(err)
	}
	peak, err := stop()
	if least := alone/2 + large; err != nil || peak < least || peak > 2*least+large {
		t.Errorf("%d bytes, %v, want at least %d", peak, err, least)
	}
	if _, err := (&server{cmd: &exec.Cmd{Process: &os.Process{Pid: -1}}}).watch()(); err == nil {
		t.Error("a process that is not there was watched")
	}
}

func TestChoose(t *testing.T) {
	if all, err := choose(""); err != nil || len(all) != len(works()) {
		t.Errorf("choose nothing: %d works, %v", len(all), err)
	}
	if some, err := choose("cold,herd"); err != nil || len(some) != 2 {
		t.Errorf("choose two: %d works, %v", len(some), err)
	}
	if _, err := choose("cold,lukewarm"); err == nil {
		t.Error("a work that does not exist was chosen")
	}
}

// testUpstream is an upstream with a small image.
func testUpstream(t *testing.T, rate int64) (*upstream, *image) {
	t.Helper()
	img, err := makeImage(t.TempDir(), "app", shape{2, 300 << 10}, programs, 1)
	if err != nil {
		t.Fatal(err)
	}
	u, err := newUpstream(t.Context(), 0, rate, img)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.close)
	return u, img
}

func TestPull(t *testing.T) {
	u, img := testUpstream(t, 0)
	for _, all := range []bool{true, false} {
		done, err := pulls(t.Context(), order{Address: u.address, Repository: "app", Clients: 3, Parallel: 6, VerifyAll: all})
		if err != nil {
			t.Fatal(err)
		}
		sent, answers := u.sent()
		if want := 3 * img.size(); done.Bytes != want || sent != want || answers != 9 {
			t.Errorf("got %d bytes, the upstream sent %d in %d answers, want %d in 9", done.Bytes, sent, answers, want)
		}
	}
	// A layer that rotted is seen by the client that looks, and a short one by all.
	path := img.layers[img.members.Layers[1].Digest]
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2]++
	for _, bad := range [][]byte{b, b[:len(b)-1]} {
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := pulls(t.Context(), order{Address: u.address, Repository: "app", Clients: 1, Parallel: 2}); err == nil {
			t.Error("a wrong layer was pulled")
		}
	}
}

func TestUpstreamKeepsItsRate(t *testing.T) {
	const rate = 4 << 20
	u, img := testUpstream(t, rate)
	done, err := pulls(t.Context(), order{Address: u.address, Repository: "app", Clients: 1, Parallel: 6})
	if err != nil {
		t.Fatal(err)
	}
	if want := time.Duration(float64(img.size()) / rate * float64(time.Second)); done.Elapsed < want*9/10 {
		t.Errorf("%d bytes in %s, want %s at least", img.size(), done.Elapsed, want)
	}
}

func TestLoad(t *testing.T) {
	u, img := testUpstream(t, 0)
	layer := img.members.Layers[0]
	o := order{Address: u.address, Path: "/v2/app/blobs/" + layer.Digest.String(), Connections: 2, Turn: 50 * time.Millisecond}
	for _, o.Method = range []string{http.MethodGet, http.MethodHead} {
		done, err := load(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		want := done.Requests * layer.Size
		if o.Method == http.MethodHead {
			want = 0
		}
		if sent, _ := u.sent(); done.Requests < 2 || done.Bytes != want || sent != want {
			t.Errorf("%s: %d requests, %d bytes, the upstream sent %d, want %d", o.Method, done.Requests, done.Bytes, sent, want)
		}
	}
}

// TestWireRefuses keeps a side from winning by answers that are no content.
func TestWireRefuses(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"404":              http.NotFound,
		"without a length": func(w http.ResponseWriter, _ *http.Request) { _ = http.NewResponseController(w).Flush() },
		"shorter than said": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "9")
			_, _ = w.Write([]byte("four"))
		},
	} {
		s := httptest.NewServer(h)
		_, err := load(context.WithoutCancel(t.Context()), order{
			Address: s.Listener.Addr().String(), Method: http.MethodGet, Path: "/", Connections: 1, Turn: 50 * time.Millisecond,
		})
		s.Close()
		if err == nil {
			t.Errorf("an answer %s was counted", name)
		}
	}
}
