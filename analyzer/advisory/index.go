package advisory

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"runtime"
	"sort"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/sluiceproxy/sluice/analyzer"
)

// Index is an open index: one immutable state of the advisories. All methods may
// be called from many goroutines at once. An Index that nobody refers to is
// released by the garbage collector, so one that was replaced needs no Close.
type Index struct {
	*mapping
	info     os.FileInfo
	stats    Stats
	covered  map[ecosystem]coverage // in the index
	releases map[string][]ecosystem // by base, in the index
	keys     int
	rows     int
	ids      int
	spare    sync.Pool // of *[]posting
}

// coverage says what the index has of an ecosystem.
type coverage struct {
	whole bool      // its feed, not only single records
	asOf  time.Time // EcosystemStats.AsOf
}

var _ analyzer.Matcher = (*Index)(nil)

// ErrClosed is returned by the methods of an Index after Close.
var ErrClosed = errors.New("advisory index is closed")

// mapping is the file's bytes with a count of their users, of which the Index
// itself is one until it is closed.
type mapping struct {
	data   []byte
	h      *header
	users  atomic.Int64
	closed atomic.Bool
}

// acquire keeps the bytes mapped until release. It fails after the last user left.
func (m *mapping) acquire() bool {
	for {
		n := m.users.Load()
		if n == 0 || m.closed.Load() {
			return false
		}
		if m.users.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (m *mapping) release() error {
	if m.users.Add(-1) > 0 {
		return nil
	}
	return unmapFile(m.data)
}

// leave is release for those who cannot do anything about its error: what is
// left mapped after it is given back when the process ends.
func (m *mapping) leave() { _ = m.release() }

// Close releases the index. It may be called while others use it, and more than
// once: calls that are under way finish, later ones return ErrClosed.
func (m *mapping) Close() error {
	if m.closed.Swap(true) {
		return nil
	}
	return m.release()
}

func (m *mapping) section(n int) []byte {
	s := m.h.sections[n]
	return m.data[s.off : s.off+s.length]
}

// Open opens an index file. It refuses, wrapping ErrVersion, one of another
// version, and, wrapping ErrCorrupt, a file that is truncated or damaged in its
// header, key tables or statistics; damage elsewhere is found when the place is read, or by Verify.
func Open(path string) (*Index, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	x, err := open(f)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return x, nil
}

func open(f *os.File) (*Index, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() < int64(headerSize) || info.Size() > 1<<40 {
		return nil, corrupt(fmt.Sprintf("no index file has %d bytes", info.Size()))
	}
	first := make([]byte, headerSize)
	if _, err := f.ReadAt(first, 0); err != nil {
		return nil, err
	}
	h, err := decodeHeader(first, uint64(info.Size()))
	if err != nil {
		return nil, err
	}
	// These are read through the file, not the map, so that checking them does
	// not make them resident.
	for _, n := range []int{sectionKeys, sectionKeyText, sectionStats} {
		if err := checkSection(f, h.sections[n]); err != nil {
			return nil, err
		}
	}
	data, err := mapFile(f, int(info.Size()))
	if err != nil {
		return nil, err
	}
	x := &Index{mapping: &mapping{data: data, h: h}, info: info}
	x.users.Store(1)
	if err := x.init(); err != nil {
		return nil, errors.Join(err, x.Close())
	}
	runtime.AddCleanup(x, func(m *mapping) { m.Close() }, x.mapping)
	return x, nil
}

// init reads what is kept in memory: the statistics and the ecosystems.
func (x *Index) init() error {
	if err := json.Unmarshal(x.section(sectionStats), &x.stats); err != nil {
		return corrupt("statistics")
	}
	x.stats.Size = int64(len(x.data))
	keys, rows, ids := x.section(sectionKeys), x.section(sectionTable), x.section(sectionIDs)
	if len(keys)%keyRowSize != 0 || len(rows)%advRowSize != 0 || len(ids)%idRowSize != 0 {
		return corrupt("table size")
	}
	x.keys, x.rows, x.ids = len(keys)/keyRowSize, len(rows)/advRowSize, len(ids)/idRowSize
	x.covered = make(map[ecosystem]coverage, len(x.stats.Ecosystems))
	x.releases = make(map[string][]ecosystem)
	for _, s := range x.stats.Ecosystems {
		e := parseEcosystem(s.Name)
		x.covered[e] = coverage{s.Covered, s.AsOf}
		x.releases[e.base] = append(x.releases[e.base], e)
	}
	return nil
}

// Revision names the content: two indexes with the same advisories have the
// same revision, whenever they were built.
func (x *Index) Revision() string { return x.stats.Revision }

// Updated is Stats.Updated. What counts for one image is Matches.AsOf.
func (x *Index) Updated() time.Time { return x.stats.Updated }

// Checked is when the sources were last compared with the index: when it was
// built, or found to be current.
func (x *Index) Checked() time.Time { return x.info.ModTime() }

// Stats describe the index.
func (x *Index) Stats() Stats {
	s := x.stats
	s.Ecosystems = append([]EcosystemStats(nil), s.Ecosystems...)
	return s
}

// Advisory returns the advisories with the given id or alias, in the order of
// their ids. There can be several: a CVE is named by more than one feed.
func (x *Index) Advisory(id string) ([]Advisory, error) {
	if !x.acquire() {
		return nil, ErrClosed
	}
	defer x.leave()
	rows, hash := x.section(sectionIDs), hashID(id)
	at := func(i int) uint64 { return binary.LittleEndian.Uint64(rows[i*idRowSize:]) }
	var out []Advisory
	for i := sort.Search(x.ids, func(i int) bool { return at(i) >= hash }); i < x.ids && at(i) == hash; i++ {
		a, err := x.advisory(binary.LittleEndian.Uint32(rows[i*idRowSize+8:]))
		if err != nil {
			return nil, err
		}
		names := append([]string{a.ID}, a.Aliases...)
		for _, n := range names {
			if n == id {
				out = append(out, a.Advisory)
				break
			}
		}
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].ID < out[j].ID })
	return out, nil
}

// advisory decodes one advisory, with the rating that it borrows if it has none.
// The caller has acquired the mapping.
func (x *Index) advisory(number uint32) (storedAdvisory, error) {
	a, lender, err := x.decodeRow(number)
	if err != nil || lender == 0 {
		return a, err
	}
	l, _, err := x.decodeRow(lender - 1)
	if err != nil {
		return storedAdvisory{}, err
	}
	a.rate(rating{severity: l.Severity, score: l.Score, vector: l.Vector}, l.ID)
	return a, nil
}

func (x *Index) decodeRow(number uint32) (storedAdvisory, uint32, error) {
	if uint64(number) >= uint64(x.rows) {
		return storedAdvisory{}, 0, corrupt("advisory number")
	}
	row := x.section(sectionTable)[int(number)*advRowSize:]
	blob, ok := slice(x.section(sectionAdvisories), binary.LittleEndian.Uint32(row), binary.LittleEndian.Uint32(row[4:]))
	if !ok || crc32.Update(checksum(blob), castagnoli, row[12:advRowSize]) != binary.LittleEndian.Uint32(row[8:]) {
		return storedAdvisory{}, 0, corrupt("advisory checksum")
	}
	a, err := decodeAdvisory(string(blob))
	if e := binary.LittleEndian.Uint32(row[16:]); e > 0 {
		p := float64(e-1) / 1e6
		a.EPSS = &p
	}
	return a, binary.LittleEndian.Uint32(row[12:]), err
}

// slice returns length bytes of b at off, if b has them.
func slice(b []byte, off, length uint32) ([]byte, bool) {
	if uint64(off)+uint64(length) > uint64(len(b)) {
		return nil, false
	}
	return b[off : uint64(off)+uint64(length)], true
}

// block returns the postings of the key "ecosystem NUL name", without their
// checksum; "" without any. It lies in the mapped file: it must not outlive the
// caller's hold on it, so all that is returned to others is copied.
func (x *Index) block(key []byte) (string, error) {
	rows, texts := x.section(sectionKeys), x.section(sectionKeyText)
	low, high := 0, x.keys
	for low < high {
		mid := int(uint(low+high) / 2)
		row := rows[mid*keyRowSize:]
		text, ok := slice(texts, binary.LittleEndian.Uint32(row), binary.LittleEndian.Uint32(row[4:]))
		if !ok {
			return "", corrupt("key table")
		}
		switch n := bytes.Compare(key, text); {
		case n < 0:
			high = mid
		case n > 0:
			low = mid + 1
		default:
			b, ok := slice(x.section(sectionPostings), binary.LittleEndian.Uint32(row[8:]), binary.LittleEndian.Uint32(row[12:]))
			if !ok || len(b) <= 4 || checksum(b[4:]) != binary.LittleEndian.Uint32(b) {
				return "", corrupt("postings checksum")
			}
			return unsafe.String(&b[4], len(b)-4), nil
		}
	}
	return "", nil
}

// postings appends all affected entries of a name to list, in the order of their
// advisories. They lie in the mapped file, as block's.
func (x *Index) postings(list []posting, e ecosystem, name string) ([]posting, error) {
	var buf [128]byte
	key := append(buf[:0], e.base...)
	if e.release != "" {
		key = append(append(key, ':'), e.release...)
	}
	key = append(append(key, 0), normalName(e.base, name)...)
	b, err := x.block(key)
	if err != nil {
		return list, err
	}
	for d := (decoder{rest: b}); d.rest != ""; {
		list = append(list, d.posting())
		if d.bad {
			return list, corrupt("postings")
		}
	}
	return list, nil
}

// Verify reads the whole file and compares every checksum. It wraps ErrCorrupt
// if anything differs.
func Verify(ctx context.Context, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	x, err := open(f)
	if err != nil {
		return fmt.Errorf("verify %s: %w", path, err)
	}
	defer x.Close()
	for _, s := range x.h.sections {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if err := checkSection(f, s); err != nil {
			return fmt.Errorf("verify %s: %w", path, err)
		}
	}
	return nil
}

func checkSection(f io.ReaderAt, s section) error {
	crc := crc32.New(castagnoli)
	n, err := io.CopyBuffer(struct{ io.Writer }{crc}, io.NewSectionReader(f, int64(s.off), int64(s.length)), make([]byte, 1<<17))
	if err != nil {
		return err
	}
	if uint64(n) != s.length || crc.Sum32() != s.crc {
		return corrupt("section checksum")
	}
	return nil
}
