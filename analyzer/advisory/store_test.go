package advisory

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"testing"

	"go.uber.org/zap/zaptest"

	"github.com/sluiceproxy/sluice/analyzer"
)

func TestStore(t *testing.T) {
	dir := t.TempDir()
	s := NewStore(dir, zaptest.NewLogger(t))
	if err := s.Reload(); err != nil || s.Current() != nil {
		t.Fatalf("no index yet: %v, %v", s.Current(), err)
	}
	src := func(id string) Source {
		return Source{Base: export(t, map[string][]string{"npm": {goodRecord(id)}})}
	}
	var during Progress
	var busy error
	first, err := s.Update(t.Context(), src("GHSA-1"), CompileOptions{Progress: func(p Progress) {
		if got, ok := s.Updating(); ok {
			during = got
		}
		_, busy = s.Update(t.Context(), src("GHSA-2"), CompileOptions{})
	}})
	if err != nil || s.Current() == nil || s.Current().Revision() != first.Revision {
		t.Fatalf("first update: %v, %v", s.Current(), err)
	}
	if during.Phase == "" || !errors.Is(busy, ErrBusy) {
		t.Errorf("during the update: progress %+v, second update %v", during, busy)
	}
	if _, ok := s.Updating(); ok {
		t.Error("updating after the update")
	}
	old := s.Current()
	if err := s.Reload(); err != nil || s.Current() != old {
		t.Errorf("reload of the same file: %v, another index %v", err, s.Current() != old)
	}

	// Another process updates; then the file is damaged; then it is gone.
	second, err := Compile(t.Context(), src("GHSA-2"), CompileOptions{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Reload(); err != nil || s.Current().Revision() != second.Revision || second.Revision == first.Revision {
		t.Errorf("reload of another file: %v, revision %s", err, s.Current().Revision())
	}
	if m, err := old.Match(t.Context(), []analyzer.Package{{Type: "npm", Ecosystem: "npm", Name: "a", Version: "1.0.0"}}); err != nil || len(m.Findings) != 1 || m.Findings[0].Advisory != "GHSA-1" {
		t.Errorf("the old index after it was replaced: %+v, %v", m, err)
	}
	if err := os.Remove(s.Path()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.Path(), []byte("damaged"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.Reload(); !errors.Is(err, ErrCorrupt) || s.Current().Revision() != second.Revision {
		t.Errorf("reload of a damaged file: %v, revision %s", err, s.Current().Revision())
	}
	if err := os.Remove(s.Path()); err != nil {
		t.Fatal(err)
	}
	if err := s.Reload(); err != nil || s.Current().Revision() != second.Revision {
		t.Errorf("reload of no file: %v, revision %s", err, s.Current().Revision())
	}
	if _, err := s.Update(t.Context(), Source{Base: t.TempDir()}, CompileOptions{}); err == nil || s.Current().Revision() != second.Revision {
		t.Errorf("failed update: %v, revision %s", err, s.Current().Revision())
	}
}

// TestSwapUnderReaders: readers that hold an index over swaps, closes and
// garbage collections get whole answers or ErrClosed.
func TestSwapUnderReaders(t *testing.T) {
	s := NewStore(t.TempDir(), zaptest.NewLogger(t))
	sources := make([]Source, 4)
	for i := range sources {
		sources[i] = Source{Base: export(t, map[string][]string{"npm": {goodRecord(fmt.Sprintf("GHSA-%d", i))}})}
	}
	if _, err := s.Update(t.Context(), sources[0], CompileOptions{}); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				m, err := s.Current().Match(t.Context(), []analyzer.Package{{Type: "npm", Ecosystem: "npm", Name: "a", Version: "1.0.0"}})
				if errors.Is(err, ErrClosed) {
					continue
				}
				if err != nil || len(m.Findings) != 1 {
					t.Errorf("%+v, %v", m, err)
					return
				}
			}
		})
	}
	for i := range 8 {
		old := s.Current()
		if _, err := s.Update(t.Context(), sources[i%len(sources)], CompileOptions{}); err != nil {
			t.Error(err)
		}
		if i%2 == 0 {
			if err := old.Close(); err != nil {
				t.Error(err)
			}
		}
		runtime.GC()
	}
	close(done)
	readers.Wait()
}
