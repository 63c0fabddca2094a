package advisory

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/sluiceproxy/sluice/analyzer"
)

// The benchmarks need the real advisories, which they multiply to 300,000 with
// changed ids and names. SLUICE_TEST_BENCH_DIR keeps the result between runs.

const benchAdvisories = 300_000

var multiplied struct {
	once sync.Once
	dir  string
	err  error
}

func multiply(b *testing.B) string {
	b.Helper()
	data := testData(b)
	m := &multiplied
	m.once.Do(func() {
		if m.dir = os.Getenv("SLUICE_TEST_BENCH_DIR"); m.dir == "" {
			if m.dir, m.err = os.MkdirTemp("", "sluice-bench-*"); m.err != nil {
				return
			}
		}
		if _, err := os.Stat(filepath.Join(m.dir, "ecosystems.txt")); err != nil {
			m.err = writeMultiplied(filepath.Join(data, "osv"), m.dir)
		}
	})
	if m.err != nil {
		b.Fatal(m.err)
	}
	return m.dir
}

var (
	idField   = regexp.MustCompile(`^\{\s*"(?:schema_version": ?"[^"]*", ?")?id": ?"[^"]+`)
	nameField = regexp.MustCompile(`"name": ?"`)
)

func writeMultiplied(from, to string) error {
	list, err := os.ReadFile(filepath.Join(from, "ecosystems.txt"))
	if err != nil {
		return err
	}
	total := 0
	type archive struct {
		eco     string
		records [][]byte
	}
	var archives []archive
	for _, eco := range strings.Fields(string(list)) {
		z, err := zip.OpenReader(filepath.Join(from, eco, "all.zip"))
		if err != nil {
			return err
		}
		a := archive{eco: eco}
		for _, e := range z.File {
			r, err := e.Open()
			if err != nil {
				return err
			}
			data, err := io.ReadAll(r)
			if err != nil {
				return err
			}
			a.records = append(a.records, data)
		}
		total += len(a.records)
		archives = append(archives, a)
		if err := z.Close(); err != nil {
			return err
		}
	}
	times := benchAdvisories/total + 1
	for _, a := range archives {
		if err := os.MkdirAll(filepath.Join(to, a.eco), 0o755); err != nil {
			return err
		}
		f, err := os.Create(filepath.Join(to, a.eco, "all.zip"))
		if err != nil {
			return err
		}
		z := zip.NewWriter(f)
		for k := range times {
			for i, data := range a.records {
				w, err := z.Create(fmt.Sprintf("%d-%d.json", k, i))
				if err != nil {
					return err
				}
				if k > 0 {
					id := idField.Find(data)
					if id == nil {
						return fmt.Errorf("%s: no id in %.80s", a.eco, data)
					}
					data = append(append(bytes.Clone(id), fmt.Sprintf("-copy%d", k)...), data[len(id):]...)
					data = nameField.ReplaceAll(data, fmt.Appendf(nil, `"name":"copy%d-`, k))
				}
				if _, err := w.Write(data); err != nil {
					return err
				}
			}
		}
		if err := z.Close(); err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(to, "ecosystems.txt"), list, 0o644)
}

var benchIndex struct {
	once sync.Once
	path string
	err  error
}

func bigIndex(b *testing.B) string {
	b.Helper()
	src := multiply(b)
	i := &benchIndex
	i.once.Do(func() {
		i.path = filepath.Join(src, "out", indexName)
		if _, err := os.Stat(i.path); err != nil {
			_, i.err = Compile(context.Background(), Source{Base: src}, CompileOptions{Dir: filepath.Dir(i.path)})
		}
	})
	if i.err != nil {
		b.Fatal(i.err)
	}
	return i.path
}

// status returns a field of /proc/self/status in MiB, 0 where there is none.
func status(field string) float64 {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			kb, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kb / 1024
		}
	}
	return 0
}

// BenchmarkCompile measures one update from archives on disk: time, and the
// process's largest resident size meanwhile.
func BenchmarkCompile(b *testing.B) {
	src := multiply(b)
	data := testData(b)
	for b.Loop() {
		debug.FreeOSMemory()
		if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
			b.Log("peak includes what came before: ", err)
		}
		stats, err := Compile(b.Context(), Source{Base: src, KEV: filepath.Join(data, "kev", "known_exploited_vulnerabilities.json")}, CompileOptions{Dir: b.TempDir()})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(status("VmHWM"), "peak-MiB")
		b.ReportMetric(float64(stats.Advisories), "advisories")
		b.ReportMetric(float64(stats.Size)/(1<<20), "file-MiB")
	}
}

func BenchmarkOpen(b *testing.B) {
	path := bigIndex(b)
	for b.Loop() {
		x, err := Open(path)
		if err != nil {
			b.Fatal(err)
		}
		x.Close()
	}
}

// BenchmarkResident measures what an index adds to the resident size, open and
// after the match of an image.
func BenchmarkResident(b *testing.B) {
	path := bigIndex(b)
	for b.Loop() {
		debug.FreeOSMemory()
		before := status("VmRSS")
		x, err := Open(path)
		if err != nil {
			b.Fatal(err)
		}
		debug.FreeOSMemory()
		b.ReportMetric(status("VmRSS")-before, "open-MiB")
		if _, err := x.Match(b.Context(), image(b, x, "AlmaLinux:9", 400)); err != nil {
			b.Fatal(err)
		}
		debug.FreeOSMemory()
		b.ReportMetric(status("VmRSS")-before, "matched-MiB")
		x.Close()
	}
}

// BenchmarkMatch matches images of 400 packages, each in a version that some of
// its advisories fix.
func BenchmarkMatch(b *testing.B) {
	x, err := Open(bigIndex(b))
	if err != nil {
		b.Fatal(err)
	}
	defer x.Close()
	mixed := image(b, x, "Debian:11", 250)
	for eco, n := range map[string]int{"npm": 60, "PyPI": 50, "Go": 30, "Maven": 10} {
		mixed = append(mixed, image(b, x, eco, n)...)
	}
	for _, bb := range []struct {
		name string
		pkgs []analyzer.Package
	}{
		{"alma9", image(b, x, "AlmaLinux:9", 400)},
		{"alpine", image(b, x, "Alpine:v3.11", 400)},
		{"debian", image(b, x, "Debian:11", 400)},
		{"mixed", mixed},
		{"pypi", image(b, x, "PyPI", 400)},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			var found analyzer.Matches
			for b.Loop() {
				if found, err = x.Match(b.Context(), bb.pkgs); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(bb.pkgs)), "packages")
			b.ReportMetric(float64(len(found.Findings)), "findings")
		})
	}
}

// image makes n packages from the index's own keys, spread over the ecosystem.
func image(b *testing.B, x *Index, eco string, n int) []analyzer.Package {
	b.Helper()
	types := map[string]string{"AlmaLinux:9": "rpm", "Alpine:v3.11": "apk", "Debian:11": "deb", "npm": "npm", "PyPI": "pypi", "Go": "golang", "Maven": "maven"}
	names := keysOf(x, eco)
	var out []analyzer.Package
	for i := range n {
		name := names[i*len(names)/n]
		all, err := x.postings(nil, parseEcosystem(eco), name)
		if err != nil {
			b.Fatal(err)
		}
		version := "1.0"
		var buf eventBuffer
		for _, e := range all {
			for d := e.rangeDecoder(); d.rest != ""; {
				r := d.events(buf[:0])
				for _, ev := range r {
					if ev.kind == eventFixed {
						version = strings.Clone(ev.version)
					}
				}
			}
		}
		out = append(out, analyzer.Package{Type: types[eco], Name: name, Version: version, Ecosystem: eco})
	}
	return out
}

// keysOf returns the names that the index has in an ecosystem.
func keysOf(x *Index, eco string) []string {
	rows, texts := x.section(sectionKeys), x.section(sectionKeyText)
	var out []string
	for i := range x.keys {
		row := rows[i*keyRowSize:]
		text := string(texts[le32(row):][:le32(row[4:])])
		if name, ok := strings.CutPrefix(text, eco+"\x00"); ok {
			out = append(out, name)
		}
	}
	return out
}

func le32(b []byte) uint32 {
	return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
}

// BenchmarkParseRecord is the largest part of an update.
func BenchmarkParseRecord(b *testing.B) {
	r := map[string]any{"id": "X-1", "affected": []any{map[string]any{
		"package": map[string]string{"ecosystem": "Debian:12", "name": "a"},
		"ranges":  []any{map[string]any{"type": "ECOSYSTEM", "events": []any{map[string]string{"introduced": "0"}, map[string]string{"fixed": "1.2-3"}}}},
	}}}
	data, err := json.Marshal(r)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := parseRecord(data); err != nil {
			b.Fatal(err)
		}
	}
}
