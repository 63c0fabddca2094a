package store

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	godigest "github.com/opencontainers/go-digest"
)

// model is what a store with watermarks should hold, told in the plainest way.
type model struct {
	limit, high, low int64
	blobs            []modelBlob // the last used at the end
	pins             map[int]int
}

type modelBlob struct {
	id   int
	size int64
}

func (m *model) find(id int) int {
	return slices.IndexFunc(m.blobs, func(b modelBlob) bool { return b.id == id })
}

func (m *model) total() (sum int64) {
	for _, b := range m.blobs {
		sum += b.size
	}
	return sum
}

// evict drops the least recently used until reserved more bytes fit into limit.
func (m *model) evict(reserved, limit int64) {
	for m.total()+reserved > limit {
		i := slices.IndexFunc(m.blobs, func(b modelBlob) bool { return m.pins[b.id] == 0 })
		if i < 0 {
			return
		}
		m.blobs = slices.Delete(m.blobs, i, i+1)
	}
}

// settle is the eviction in the background.
func (m *model) settle(reserved int64) {
	if m.total()+reserved > m.high {
		m.evict(reserved, m.low)
	}
}

// put reports whether there is space for the blob.
func (m *model) put(b modelBlob) bool {
	var pinned int64
	for _, have := range m.blobs {
		if m.pins[have.id] > 0 {
			pinned += have.size
		}
	}
	if pinned+b.size > m.limit {
		return false
	}
	m.evict(b.size, m.limit)
	m.settle(b.size) // after the reservation
	m.remove(b.id)
	m.blobs = append(m.blobs, b)
	m.settle(0) // after the commit
	return true
}

func (m *model) use(id int) bool {
	i := m.find(id)
	if i < 0 {
		return false
	}
	b := m.blobs[i]
	m.blobs = append(slices.Delete(m.blobs, i, i+1), b)
	return true
}

func (m *model) remove(id int) {
	if i := m.find(id); i >= 0 {
		m.blobs = slices.Delete(m.blobs, i, i+1)
	}
}

// putSlowly is Put with all the time in the world for the eviction in the
// background.
func putSlowly(t *testing.T, s *Store, d godigest.Digest, b []byte) error {
	t.Helper()
	p, err := s.NewSpool(int64(len(b)))
	s.running.Wait()
	if err != nil {
		return err
	}
	if _, err := p.Write(b); err != nil {
		return errors.Join(err, p.Abort())
	}
	err = p.Commit(t.Context(), d, int64(len(b)))
	s.running.Wait()
	return err
}

// TestAgainstModel does random things to a store and to its model, one after
// the other, restarts included.
func TestAgainstModel(t *testing.T) {
	const blobs, steps = 14, 400
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 3))
			c, dir := newClock(), t.TempDir()
			opts := Options{MaxBytes: 20 * unit, High: .9, Low: .7, Now: c.now}
			s := openWith(t, dir, opts)
			m := &model{limit: s.limit, high: s.high, low: s.low, pins: map[int]int{}}
			var content [blobs][]byte
			var digests [blobs]godigest.Digest
			for i := range blobs {
				content[i] = blob(string(rune('a'+i)), smallBytes+1+r.IntN(5*unit))
				digests[i] = godigest.FromBytes(content[i])
			}
			var unpins []func()
			unpinned := []int{} // ids in the order of unpins
			var log []string
			for range steps {
				c.forward(useGrain) // so that each use counts
				id := r.IntN(blobs)
				var what string
				switch r.IntN(12) {
				case 0, 1, 2, 3:
					what = "put"
					err := putSlowly(t, s, digests[id], content[id])
					ok := m.put(modelBlob{id, int64(len(content[id]))})
					if errors.Is(err, ErrFull) == ok || (err == nil) != ok {
						t.Fatalf("put %d: %v, the model says %v\n%s", id, err, ok, strings.Join(log, "\n"))
					}
				case 4, 5, 6, 7:
					what = "use"
					_, err := s.Get(t.Context(), digests[id])
					if ok := m.use(id); errors.Is(err, ErrNotFound) == ok || (err == nil) != ok {
						t.Fatalf("use %d: %v, the model says %v\n%s", id, err, ok, strings.Join(log, "\n"))
					}
				case 8:
					what = "pin"
					unpins, unpinned = append(unpins, s.Pin(digests[id])), append(unpinned, id)
					m.pins[id]++
				case 9:
					what = "unpin"
					if len(unpins) > 0 {
						unpins[0]()
						s.running.Wait()
						id = unpinned[0]
						unpins, unpinned = unpins[1:], unpinned[1:]
						if m.pins[id]--; m.use(id) {
							m.settle(0)
						}
					}
				case 10:
					what = "remove"
					if err := s.Remove(t.Context(), digests[id]); err != nil {
						t.Fatal(err)
					}
					m.remove(id)
				case 11:
					if len(unpins) == 0 {
						what = "restart"
						s.Close()
						for d, e := range s.index.entries { // new files have the system's time, not the test's
							saveTime(t, s, d, e.used)
						}
						s = openWith(t, dir, opts)
						s.running.Wait()
					}
				}
				log = append(log, fmt.Sprintf("%s %c", what, 'a'+id))
				var got, want []int
				for i, d := range digests {
					if s.index.has(d) {
						got = append(got, i)
					}
					if m.find(i) >= 0 {
						want = append(want, i)
					}
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Fatalf("-model +store\n%s\n%s", diff, strings.Join(log, "\n"))
				}
			}
			for _, unpin := range unpins {
				unpin()
			}
			check(t, s)
		})
	}
}

// TestRacing lets readers, writers, pins and removals of the same few blobs
// meet while the bound forces evictions.
func TestRacing(t *testing.T) {
	const blobs, workers, steps = 12, 8, 60
	s := openWith(t, t.TempDir(), Options{MaxBytes: 10 * unit, High: .8, Low: .6})
	var content [blobs][]byte
	var digests [blobs]godigest.Digest
	for i := range blobs {
		n := unit * (1 + i%3)
		if i%4 == 0 {
			n = smallBytes / 2
		}
		content[i] = blob(string(rune('a'+i)), n)
		digests[i] = godigest.FromBytes(content[i])
	}
	kept := s.Pin(digests[0])
	if err := s.Put(t.Context(), digests[0], content[0]); err != nil {
		t.Fatal(err)
	}
	whole := func(id int) {
		f, err := s.OpenBlob(digests[id])
		if errors.Is(err, ErrNotFound) && id > 0 {
			return
		}
		if err != nil {
			t.Errorf("open %d: %v", id, err)
			return
		}
		defer func() { _ = f.Close() }()
		if b, err := io.ReadAll(f); err != nil || godigest.FromBytes(b) != digests[id] {
			t.Errorf("blob %d: %d bytes of %d, %v", id, len(b), len(content[id]), err)
		}
	}
	write := func(r *rand.Rand, id int) error {
		size := int64(len(content[id]))
		if r.IntN(3) == 0 {
			size = -1
		}
		p, err := s.NewSpool(size)
		if err != nil {
			return err
		}
		for part := range slices.Chunk(content[id], 64<<10) {
			if _, err := p.Write(part); err != nil {
				return errors.Join(err, p.Abort())
			}
		}
		if r.IntN(4) == 0 {
			return p.Abort()
		}
		return p.Commit(t.Context(), digests[id], int64(len(content[id])))
	}
	var g sync.WaitGroup
	for w := range workers {
		g.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 5))
			for range steps {
				id := r.IntN(blobs)
				switch r.IntN(8) {
				case 0, 1, 2:
					if err := write(r, id); err != nil && !errors.Is(err, ErrFull) {
						t.Errorf("write %d: %v", id, err)
					}
				case 3:
					if id > 0 {
						if err := s.Remove(t.Context(), digests[id]); err != nil {
							t.Errorf("remove %d: %v", id, err)
						}
					}
				case 4:
					unpin := s.Pin(digests[id])
					whole(id)
					unpin()
				default:
					whole(id)
				}
				s.index.mu.Lock()
				if here := s.index.used + s.index.reserved - s.index.unwritten; here > s.limit {
					t.Errorf("%d bytes on the disk, more than %d", here, s.limit)
				}
				s.index.mu.Unlock()
			}
		})
	}
	g.Wait()
	whole(0) // was pinned all the time
	kept()
	check(t, s)
	for d := range s.index.entries {
		if ok, err := s.Has(t.Context(), d); !ok || err != nil {
			t.Errorf("%s is in the index and not on the disk: %v", d, err)
		}
	}
}

// TestPinHoldsWhatIsFound pins blobs while they are being evicted.
func TestPinHoldsWhatIsFound(t *testing.T) {
	s := openWith(t, t.TempDir(), Options{MaxBytes: 4 * unit, High: .5, Low: .25})
	var g sync.WaitGroup
	stop := make(chan struct{})
	g.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			b := blob(string(rune('a'+i%3)), unit)
			if err := s.Put(t.Context(), godigest.FromBytes(b), b); err != nil && !errors.Is(err, ErrFull) {
				t.Error(err)
			}
		}
	})
	found := 0
	for deadline := time.Now().Add(5 * time.Second); found < 200 && time.Now().Before(deadline); {
		for _, name := range "abc" {
			d := unitDigest(string(name))
			unpin := s.Pin(d)
			if f, err := s.OpenBlob(d); err == nil {
				_ = f.Close()
				found++
				for range 5 {
					if f, err = s.OpenBlob(d); err != nil {
						t.Errorf("a pinned blob is gone: %v", err)
						break
					}
					_ = f.Close()
				}
			}
			unpin()
		}
	}
	close(stop)
	g.Wait()
	if found == 0 {
		t.Error("no blob was found")
	}
	check(t, s)
}
