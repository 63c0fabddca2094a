package layer

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// benchBytes is the uncompressed size of the benchmark's layer.
const benchBytes = 400 << 20

// BenchmarkScanDebian scans a layer of 400 MB, gzip -6, made of this machine's
// own files, beside gzip -dc | sha256sum of the same file, and reports the
// ratio of their times and the peak memory of a process that does the scan.
func BenchmarkScanDebian(b *testing.B) {
	file := debianLayer(b)
	var scan, tools time.Duration
	var peak int64
	for b.Loop() {
		start := time.Now()
		out, err := exec.CommandContext(b.Context(), "sh", "-c", "gzip -dc "+file+" | sha256sum").Output()
		if err != nil {
			b.Skipf("gzip and sha256sum: %v", err)
		}
		tools += time.Since(start)

		cmd := exec.CommandContext(b.Context(), os.Args[0], "-test.run=^TestScanChild$")
		cmd.Env = append(os.Environ(), childEnv+"="+file)
		res, err := cmd.Output()
		if err != nil {
			b.Fatalf("child: %v", err)
		}
		var c childResult
		line, _, _ := strings.Cut(string(res), "\n")
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			b.Fatalf("child said %q: %v", res, err)
		}
		if want := "sha256:" + strings.Fields(string(out))[0]; c.DiffID != want {
			b.Fatalf("diffID %s, sha256sum says %s", c.DiffID, want)
		}
		scan += c.Elapsed
		peak = max(peak, c.PeakKiB)
		b.Logf("%d paths, %d packages, %d secrets, incomplete: %v", c.Paths, c.Packages, c.Secrets, c.Incomplete)
	}
	b.ReportMetric(scan.Seconds()/float64(b.N), "scan-s")
	b.ReportMetric(tools.Seconds()/float64(b.N), "gzip|sha256sum-s")
	b.ReportMetric(scan.Seconds()/tools.Seconds(), "ratio")
	b.ReportMetric(float64(peak)/1024, "peak-MiB")
	b.ReportMetric(0, "ns/op")
}

const childEnv = "SLUICE_SCAN_CHILD"

type childResult struct {
	Elapsed                  time.Duration
	PeakKiB                  int64
	DiffID                   string
	Paths, Packages, Secrets int
	Incomplete               []string
}

// TestScanChild is the benchmark's child process: it scans one file, so that
// its peak memory is the scan's.
func TestScanChild(t *testing.T) {
	file := os.Getenv(childEnv)
	if file == "" {
		t.Skip("runs as the child of BenchmarkScanDebian")
	}
	s := newScanner(t, Options{})
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	start := time.Now()
	l, err := s.Scan(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	c := childResult{Elapsed: time.Since(start), DiffID: l.DiffID.String(), Paths: len(l.Paths), Packages: len(l.Packages), Secrets: len(l.Secrets)}
	for _, i := range l.Incomplete {
		c.Incomplete = append(c.Incomplete, i.Path+": "+i.Reason)
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip(err)
	}
	for line := range strings.Lines(string(status)) {
		if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			if c.PeakKiB, err = strconv.ParseInt(strings.Fields(v)[0], 10, 64); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(c); err != nil {
		t.Fatal(err)
	}
}

// debianLayer packs this machine's own files, and keeps the result for the next run.
func debianLayer(b *testing.B) string {
	b.Helper()
	if _, err := os.Stat("/var/lib/dpkg/status"); err != nil {
		b.Skip("this machine is not a Debian: ", err)
	}
	file := filepath.Join(os.TempDir(), "sluice-bench-layer.tar.gz")
	if _, err := os.Stat(file); err == nil {
		return file
	}
	f, err := os.CreateTemp(os.TempDir(), "sluice-bench-")
	if err != nil {
		b.Fatal(err)
	}
	zw, err := gzip.NewWriterLevel(f, 6)
	if err != nil {
		b.Fatal(err)
	}
	p := &packer{tw: tar.NewWriter(zw)}
	for _, root := range []struct {
		path  string
		share int64 // of the layer's bytes, up to which it is packed
	}{
		{"/var/lib/dpkg/status", 1},
		{"/etc/os-release", 1},
		{"/usr/lib/os-release", 1},
		{"/usr/share", 35},
		{"/usr/bin", 50},
		{"/usr/lib", 100},
	} {
		p.limit = benchBytes / 100 * root.share
		if err := filepath.WalkDir(root.path, p.add); err != nil {
			b.Fatal(err)
		}
	}
	if err := errors.Join(p.tw.Close(), zw.Close(), f.Close(), os.Rename(f.Name(), file)); err != nil {
		b.Fatal(err)
	}
	return file
}

type packer struct {
	tw           *tar.Writer
	bytes, limit int64
}

func (p *packer) add(path string, d fs.DirEntry, err error) error {
	if err != nil || p.bytes > p.limit {
		return nil // unreadable here, or enough
	}
	fi, err := d.Info()
	if err != nil || fi.Mode()&(fs.ModeSocket|fs.ModeDevice|fs.ModeNamedPipe) != 0 || p.bytes+fi.Size() > benchBytes {
		return nil
	}
	link := ""
	if fi.Mode()&fs.ModeSymlink != 0 {
		if link, err = os.Readlink(path); err != nil {
			return nil
		}
	}
	h, err := tar.FileInfoHeader(fi, link)
	if err != nil {
		return err
	}
	h.Name = strings.TrimPrefix(path, "/")
	if !fi.Mode().IsRegular() {
		return p.tw.WriteHeader(h)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	if err := p.tw.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.Copy(p.tw, f)
	p.bytes += n + 512
	return err
}
