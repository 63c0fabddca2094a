package analyzer_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"math/rand/v2"
	"testing"

	godigest "github.com/opencontainers/go-digest"
	"go.uber.org/zap"

	"github.com/sluiceproxy/sluice/analyzer"
)

// reading is a scanner that only reads, and keeps what it read.
type reading struct{ read bytes.Buffer }

func (s *reading) Revision() string { return "r1" }

func (s *reading) Scan(_ context.Context, blob io.Reader) (*analyzer.Layer, error) {
	if _, err := io.Copy(&s.read, blob); err != nil {
		return nil, err
	}
	return &analyzer.Layer{Digest: godigest.FromBytes(s.read.Bytes()), Size: int64(s.read.Len())}, nil
}

// shelf is a layer cache.
type shelf map[godigest.Digest]*analyzer.Layer

func (s shelf) Layer(_ context.Context, d godigest.Digest, _ string) (*analyzer.Layer, bool, error) {
	l, ok := s[d]
	return l, ok, nil
}

func (s shelf) PutLayer(_ context.Context, _ string, l *analyzer.Layer) error {
	s[l.Digest] = l
	return nil
}

func zipped(t *testing.T, size int) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	r := rand.NewChaCha8([32]byte{1})
	if _, err := io.CopyN(z, r, int64(size)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestArrival(t *testing.T) {
	blob := zipped(t, 3<<20)
	d := godigest.FromBytes(blob)
	for _, tt := range []struct {
		name string
		feed func(*analyzer.Arrival)
		kept bool
	}{
		{"whole", func(r *analyzer.Arrival) {
			for rest := blob; len(rest) > 0; {
				n := min(len(rest), 100_000)
				r.Write(rest[:n])
				rest = rest[n:]
			}
			r.Finish(t.Context(), d)
		}, true},
		{"another digest", func(r *analyzer.Arrival) {
			r.Write(blob)
			r.Finish(t.Context(), godigest.FromString("other"))
		}, false},
		{"cut", func(r *analyzer.Arrival) { r.Write(blob[:1<<20]) }, false},
		{"not begun", func(*analyzer.Arrival) {}, false},
		{"a config", func(r *analyzer.Arrival) {
			r.Write([]byte("{} and more"))
			r.Finish(t.Context(), godigest.FromString("{} and more"))
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			kept := shelf{}
			a := analyzer.New(analyzer.Options{Scanner: &reading{}, Cache: kept, Parallel: 1, Log: zap.NewNop()})
			for range 4 { // each gives its place back
				r := a.Arriving(t.Context())
				if r == nil {
					t.Fatal("no place")
				}
				tt.feed(r)
				r.Abort()
				r.Abort()
			}
			if (len(kept) == 1) != tt.kept {
				t.Errorf("kept %v", kept)
			}
		})
	}
}

func TestArrivalPlaces(t *testing.T) {
	a := analyzer.New(analyzer.Options{Scanner: &reading{}, Cache: shelf{}, Parallel: 1, Log: zap.NewNop()})
	var all []*analyzer.Arrival
	for {
		r := a.Arriving(t.Context())
		if r == nil {
			break
		}
		if all = append(all, r); len(all) > 100 {
			t.Fatal("no bound")
		}
	}
	for _, r := range all {
		r.Abort()
	}
	if r := a.Arriving(t.Context()); r == nil {
		t.Error("places are not given back")
	} else {
		r.Abort()
	}
}
