package worker

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	godigest "github.com/opencontainers/go-digest"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/analyzer/layer"
)

func newScanner(t testing.TB, change func(*Options)) *Scanner {
	t.Helper()
	opts := Options{Command: []string{"", asWorker}, Log: zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel))}
	opts.Layer.TempDir = t.TempDir()
	if change != nil {
		change(&opts)
	}
	s, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if left, err := os.ReadDir(opts.Layer.TempDir); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	})
	return s
}

const (
	apkDB     = "lib/apk/db/installed"
	apkRecord = "P:musl\nV:1.2.4-r2\nA:x86_64\no:musl\n\nP:libcrypto3\nV:3.1.4-r1\nA:x86_64\no:openssl\n\n"
)

func tarball(t testing.TB, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for i := 0; i < len(files); i += 2 {
		if err := w.WriteHeader(&tar.Header{Name: files[i], Mode: 0o644, Size: int64(len(files[i+1]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, files[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestScan compares what a process says with what the scanner says here, one
// blob after another, with and without a proof of the digest.
func TestScan(t *testing.T) { testScan(t, newScanner(t, nil)) }

// TestWithoutRing is TestScan where the bytes go through the pipe.
func TestWithoutRing(t *testing.T) {
	s := newScanner(t, nil)
	renew(s, func() { s.ring = false })
	testScan(t, s)
	if p := s.idle[0]; p.ring != nil {
		t.Error("there is a ring")
	}
}

// renew makes changes after which processes are started anew.
func renew(s *Scanner, change func()) {
	s.mu.Lock()
	change()
	idle := s.idle
	s.idle = nil
	s.mu.Unlock()
	for _, p := range idle {
		s.retire(p)
	}
}

func testScan(t *testing.T, s *Scanner) {
	here, err := layer.New(layer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if s.Revision() != here.Revision() {
		t.Errorf("revision %q, want the layer scanner's %q", s.Revision(), here.Revision())
	}
	packages := tarball(t, apkDB, apkRecord, "etc/os-release", "ID=alpine\nVERSION_ID=3.18.9\n", "srv/key", "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")
	random := make([]byte, 3*ringSize+12345)
	_, _ = mathrand.NewChaCha8([32]byte{1}).Read(random) // it never fails
	noise := bytes.Repeat([]byte("no tar at all, but a long one "), 40_000)
	for name, b := range map[string][]byte{
		"packages": packages, "padding": append(bytes.Clone(packages), make([]byte, 700_000)...), "no tar": noise,
		"cut": packages[:len(packages)-20], "large": tarball(t, "a", strings.Repeat("x", 5<<20)),
		"many rings": tarball(t, "a", string(random), apkDB, apkRecord),
	} {
		want, werr := here.Scan(t.Context(), bytes.NewReader(b))
		for _, r := range []io.Reader{
			bytes.NewReader(b), iotest.HalfReader(bytes.NewReader(b)),
			proven{bytes.NewReader(b), godigest.FromBytes(b), int64(len(b))},
		} {
			got, err := s.Scan(t.Context(), r)
			if (err == nil) != (werr == nil) || err != nil && err.Error() != werr.Error() {
				t.Errorf("%s: error %v, want %v", name, err, werr)
			}
			if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
				t.Errorf("%s (-here +process):\n%s", name, d)
			}
		}
	}
	if n := len(s.idle); n != 1 {
		t.Errorf("%d processes idle, want the same one for all", n)
	}
}

type proven struct {
	io.Reader
	digest godigest.Digest
	size   int64
}

func (p proven) Proof() (godigest.Digest, int64, error) { return p.digest, p.size, nil }

// TestLost lets the process fail in every way. Each gives an incomplete layer
// with the digest of all bytes, and the next scan is as good as any.
func TestLost(t *testing.T) {
	patient := newScanner(t, func(o *Options) { o.Memory = 64 << 20 })
	impatient := newScanner(t, func(o *Options) { o.Stall = 300 * time.Millisecond })
	good := tarball(t, apkDB, apkRecord)
	for _, tt := range []struct{ word, want string }{
		{"crash", "the analysis process crashed: exit status 2 (\"panic: in some goroutine"},
		{"segfault", "the analysis process crashed: exit status 139"},
		{"hoard", "the analysis process was killed: out of memory"},
		{"loop", "the analysis process was killed: it made no progress for 300ms"},
		{"nonsense", "the analysis process gave no valid answer: invalid character"},
		{"huge", "the analysis process gave no valid answer: a message of 4294967295 bytes"},
		{"overpay", "the analysis process gave no valid answer: it gives back more than it has"},
		{"early", "the analysis process gave no valid answer: an answer before the blob's end"},
		{"path", "no valid answer: a path of \"../../etc/passwd\""},
		{"clean", "no valid answer: no diffID, and nothing incomplete"},
	} {
		t.Run(tt.word, func(t *testing.T) {
			t.Parallel()
			s := patient
			if tt.word == "loop" {
				s = impatient
			}
			blob := []byte(tt.word + " " + strings.Repeat("x", 3<<20))
			l, err := s.Scan(t.Context(), bytes.NewReader(blob))
			if err != nil {
				t.Fatal(err)
			}
			if tt.word == "hoard" && len(l.Incomplete) == 1 && strings.Contains(l.Incomplete[0].Reason, "ThreadSanitizer failed to allocate") {
				tt.want = "ThreadSanitizer" // the race detector meets the bound before the Go runtime does
			}
			if !l.Lost || len(l.Incomplete) != 1 || !strings.Contains(l.Incomplete[0].Reason, tt.want) {
				t.Errorf("lost %t, incomplete %v, want %q", l.Lost, l.Incomplete, tt.want)
			}
			if l.Digest != godigest.FromBytes(blob) || l.Size != int64(len(blob)) || l.DiffID != "" {
				t.Errorf("digest %s of %d bytes, diffID %q", l.Digest, l.Size, l.DiffID)
			}
			if l, err := patient.Scan(t.Context(), bytes.NewReader(good)); err != nil || l.Lost || len(l.Packages) != 2 {
				t.Errorf("the scan after it: %+v, %v", l, err)
			}
		})
	}
}

// TestDigestIsNotBelieved has a process that tells another digest.
func TestDigestIsNotBelieved(t *testing.T) {
	blob := []byte("digest " + strings.Repeat("x", 100))
	l, err := newScanner(t, nil).Scan(t.Context(), bytes.NewReader(blob))
	if err != nil || l.Digest != godigest.FromBytes(blob) || l.Size != int64(len(blob)) {
		t.Errorf("%+v, %v", l, err)
	}
}

// TestConfinement lets the process try to reach out.
func TestConfinement(t *testing.T) {
	t.Setenv("SLUICE_TEST_TOKEN", "a secret of the server's")
	s := newScanner(t, nil)
	held, missing := s.Confinement()
	l, err := s.Scan(t.Context(), strings.NewReader("probe "+strings.Repeat("x", 100)))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, i := range l.Incomplete {
		got[i.Path] = i.Reason
	}
	want := map[string]string{"environment": "[]", "temporary file": "done"}
	for _, name := range []string{"dial", "listen", "execute", "signal"} {
		want[name] = "not permitted"
	}
	want["passwords"] = "not there"
	if !slices.Contains(held, "seccomp") || !slices.Contains(held, "chroot") {
		t.Skipf("not to be had on this machine: %q", missing)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("held by %q (-want +got):\n%s", held, d)
	}
	proc := filepath.Join("/proc", strconv.Itoa(s.idle[0].cmd.Process.Pid))
	limits, err := os.ReadFile(filepath.Join(proc, "limits"))
	if err != nil {
		t.Fatal(err)
	}
	for _, limit := range []string{"Max core file size 0 0", "Max open files 64 64", "Max data size 1610612736 1610612736"} {
		if !strings.Contains(strings.Join(strings.Fields(string(limits)), " "), limit) {
			t.Errorf("no %q in %s", limit, limits)
		}
	}
	// Pipes, and what the Go runtime opens for itself: nothing of the parent's.
	descriptors, err := filepath.Glob(filepath.Join(proc, "fd", "*"))
	if err != nil || len(descriptors) < 3 {
		t.Fatal(descriptors, err)
	}
	for _, fd := range descriptors {
		to, err := os.Readlink(fd)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(to, "pipe:") && !strings.HasPrefix(to, "anon_inode:") && !strings.HasPrefix(to, "/sys/fs/cgroup/") {
			t.Errorf("descriptor %s is %s", fd, to)
		}
	}
}

// TestWithoutNamespaces checks that the process is told to be confined less, and
// works.
func TestWithoutNamespaces(t *testing.T) {
	s := newScanner(t, nil)
	renew(s, func() { s.namespaces = false })
	l, err := s.Scan(t.Context(), bytes.NewReader(tarball(t, apkDB, apkRecord)))
	if err != nil || len(l.Packages) != 2 {
		t.Fatalf("%+v, %v", l, err)
	}
	if held, missing := s.Confinement(); slices.Contains(held, "namespaces") || !slices.ContainsFunc(missing, func(m string) bool { return strings.HasPrefix(m, "no namespaces") }) {
		t.Errorf("held by %q, missing %q", held, missing)
	}
}

// TestCancel checks that a scan whose context ends kills its process at once.
func TestCancel(t *testing.T) {
	s := newScanner(t, nil)
	p := s.idle[0]
	ctx, cancel := context.WithCancel(t.Context())
	_, err := s.Scan(ctx, io.MultiReader(strings.NewReader("loop "+strings.Repeat("x", 100)), readerFunc(func([]byte) (int, error) {
		cancel()
		return 0, io.EOF
	})))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v", err)
	}
	select {
	case <-p.done:
	default:
		t.Error("the process lives on")
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestErrors checks that errors which are nobody's evidence stay errors.
func TestErrors(t *testing.T) {
	s := newScanner(t, nil)
	broken := errors.New("connection reset")
	if l, err := s.Scan(t.Context(), io.MultiReader(strings.NewReader("abc"), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("of the reader: %+v, %v", l, err)
	}
	blob := tarball(t, "a", "b")
	if l, err := s.Scan(t.Context(), proven{bytes.NewReader(blob), godigest.FromBytes(blob), 3}); err == nil {
		t.Errorf("of the proof: %+v", l)
	}
	// A disk that is full is this machine's fault.
	tight := newScanner(t, func(o *Options) { o.Layer.MaxMemory, o.Layer.MaxFile = 10, 1<<40 })
	for _, p := range tight.idle {
		if err := os.Chmod(p.dir, 0); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(p.dir); err != nil {
			t.Fatal(err)
		}
	}
	var local *fs.PathError
	if l, err := tight.Scan(t.Context(), bytes.NewReader(tarball(t, apkDB, apkRecord))); !errors.As(err, &local) {
		t.Errorf("of a temporary file: %+v, %v", l, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if l, err := s.Scan(t.Context(), bytes.NewReader(blob)); !errors.Is(err, errClosed) {
		t.Errorf("after Close: %+v, %v", l, err)
	}
	if _, err := New(Options{Command: []string{"/bin/false"}, Layer: layer.Options{TempDir: t.TempDir()}, Log: zaptest.NewLogger(t)}); err == nil {
		t.Error("a program that is no worker was taken for one")
	}
}

// TestPool scans many layers at once, with processes that are replaced.
func TestPool(t *testing.T) {
	s := newScanner(t, func(o *Options) { o.Idle, o.Scans = 2, 3 })
	blob := tarball(t, apkDB, apkRecord)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 4 {
				if l, err := s.Scan(t.Context(), bytes.NewReader(blob)); err != nil || len(l.Packages) != 2 {
					t.Errorf("%+v, %v", l, err)
				}
			}
		})
	}
	wg.Wait()
	if n := len(s.idle); n > 2 {
		t.Errorf("%d idle processes", n)
	}
	// One that was killed while it was idle is not used.
	for _, p := range s.idle {
		p.kill()
		<-p.done
	}
	if l, err := s.Scan(t.Context(), bytes.NewReader(blob)); err != nil || l.Lost {
		t.Errorf("after all idle processes were killed: %+v, %v", l, err)
	}
}

// parent scans something that never ends, for TestParentDies.
func parent() {
	s, err := New(Options{Command: []string{"", asWorker}, Layer: layer.Options{TempDir: os.Args[2]}, Log: zap.NewNop()})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(s.idle[0].cmd.Process.Pid)
	_, _ = s.Scan(context.Background(), strings.NewReader("loop "+strings.Repeat("x", 100)))
}

// TestSweep checks that a new Scanner removes what a killed program left, and
// nothing else.
func TestSweep(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs Linux")
	}
	in := t.TempDir()
	for _, name := range []string{"sluice-worker-old", "sluice-worker-new", "sluice-worker-held", "other"} {
		if err := os.Mkdir(filepath.Join(in, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if name != "sluice-worker-new" {
			hour := time.Now().Add(-time.Hour)
			if err := os.Chtimes(filepath.Join(in, name), hour, hour); err != nil {
				t.Fatal(err)
			}
		}
	}
	held, err := keep(filepath.Join(in, "sluice-worker-held"))
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	sweep(in)
	entries, err := os.ReadDir(in)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if d := cmp.Diff([]string{"other", "sluice-worker-held", "sluice-worker-new"}, got); d != "" {
		t.Errorf("left (-want +got):\n%s", d)
	}
}

// TestParentDies kills a parent whose process is in an endless loop.
func TestParentDies(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("needs Linux: ", err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], asParent, t.TempDir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatalf("the parent said %q", line)
	}
	if err := syscall.Kill(pid, 0); err != nil {
		t.Fatalf("the process does not run: %v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	for deadline := time.Now().Add(10 * time.Second); ; {
		b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
		if err != nil || strings.Contains(string(b), ") Z ") { // gone, or nobody has asked for it yet
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d lives on: %s", pid, b)
		}
	}
}

// FuzzAnswer feeds arbitrary bytes as what a process says.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x02{}"))
	f.Add([]byte("\x00\x00\x00\x20{\"layer\":{\"paths\":[\"a\",\"b/\"]}} "))
	f.Add([]byte("\x00\x00\x00\x0d{\"error\":\"x\"}"))
	s := &Scanner{limits: layer.Options{MaxEntries: 10, MaxUncompressed: 1 << 20}}
	f.Fuzz(func(t *testing.T, b []byte) {
		var a answer
		if readMessage(bytes.NewReader(b), 1<<20, &a) != nil || s.validate(&a, &blob{digest: "sha256:aa", size: 7}) != nil {
			return
		}
		if a.Layer != nil && (a.Layer.Digest != "sha256:aa" || a.Layer.Size != 7 || a.Layer.Lost || a.Layer.DiffID == "" && len(a.Layer.Incomplete) == 0) {
			t.Errorf("accepted %+v", a.Layer)
		}
	})
}

// FuzzFrames feeds arbitrary bytes as what the parent sends.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x03abc\x00\x00\x00\x00\x00\x00\x00\x02{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		fr := &frames{r: bytes.NewReader(b)}
		if got, err := io.ReadAll(fr); err == nil && (fr.end == nil || len(got) > len(b)) {
			t.Errorf("%d bytes of %d, end %v", len(got), len(b), fr.end)
		}
	})
}

var _ analyzer.Proven = proven{}
