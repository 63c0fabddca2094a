package store

import (
	"container/list"
	"sync"
	"time"

	godigest "github.com/opencontainers/go-digest"
)

const (
	// useGrain is how coarse a last use is, so that a busy blob is not moved in
	// the index with each read.
	useGrain = time.Minute
	// saveGrain is how coarse the last use is that a restart finds.
	saveGrain = time.Hour

	// smallBytes is the size up to which a blob counts as small: manifests,
	// configs. A cached layer is of no use without them, and evicting them makes
	// no space, so they go last,
	smallBytes = 64 << 10
	// unless small blobs are more than this part of all.
	smallShare = 8
)

// entry is a blob on the disk. used and saved are Unix seconds.
type entry struct {
	digest godigest.Digest
	size   int64
	used   int64         // last use, as coarse as useGrain
	saved  int64         // last use as the file's modification time tells it
	at     *list.Element // nil while the blob is pinned
}

// index is what the store holds, in the order of last use, and the account of
// its bytes.
type index struct {
	mu      sync.Mutex
	entries map[godigest.Digest]*entry
	pins    map[godigest.Digest]int // of blobs that are here or will be
	large   list.List               // of *entry, the last used at the front; without the pinned
	small   list.List

	used      int64 // bytes of blobs whose file is there
	pinned    int64 // of these, of pinned blobs
	light     int64 // of these, in the list small
	reserved  int64 // bytes promised to downloads, whether written or not
	unwritten int64 // of these, not written yet
}

// load fills an empty index. entries are in the order of last use, the last
// used at the end.
func (x *index) load(entries []*entry) {
	x.entries = make(map[godigest.Digest]*entry, len(entries))
	x.pins = make(map[godigest.Digest]int)
	for _, e := range entries {
		x.used += e.size
		x.entries[e.digest] = e
		x.enlist(e)
	}
}

// enlist makes e the last used, or a pinned one. The caller holds mu.
func (x *index) enlist(e *entry) {
	switch {
	case x.pins[e.digest] > 0:
		x.pinned += e.size
	case e.size <= smallBytes:
		e.at = x.small.PushFront(e)
		x.light += e.size
	default:
		e.at = x.large.PushFront(e)
	}
}

// delist undoes enlist. The caller holds mu.
func (x *index) delist(e *entry) {
	switch {
	case e.at == nil:
		x.pinned -= e.size
	case e.size <= smallBytes:
		x.small.Remove(e.at)
		x.light -= e.size
	default:
		x.large.Remove(e.at)
	}
	e.at = nil
}

// add notes a blob whose file has come, or has come again, and ends the
// reservation of its download.
func (x *index) add(d godigest.Digest, size, reserved int64, now time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.reserved -= reserved
	x.unwritten -= reserved - size
	if e, ok := x.entries[d]; ok {
		x.delist(e)
		x.used -= e.size
	}
	e := &entry{digest: d, size: size, used: now.Unix(), saved: now.Unix()}
	x.entries[d] = e
	x.used += size
	x.enlist(e)
}

// touch notes a use of d. save is true once in saveGrain: then the caller
// saves the time with the file.
func (x *index) touch(d godigest.Digest, now time.Time) (size int64, known, save bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	e, ok := x.entries[d]
	if !ok {
		return 0, false, false
	}
	if now.Unix()-e.used >= int64(useGrain/time.Second) {
		x.delist(e)
		e.used = now.Unix()
		x.enlist(e)
		if e.used-e.saved >= int64(saveGrain/time.Second) {
			e.saved, save = e.used, true
		}
	}
	return e.size, true, save
}

// snapshot copies all entries.
func (x *index) snapshot() []entry {
	x.mu.Lock()
	defer x.mu.Unlock()
	out := make([]entry, 0, len(x.entries))
	for _, e := range x.entries {
		out = append(out, *e)
	}
	return out
}

func (x *index) has(d godigest.Digest) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.entries[d] != nil
}

// take takes a blob out, nil where there is none. Its bytes count until freed.
func (x *index) take(d godigest.Digest) *entry {
	x.mu.Lock()
	defer x.mu.Unlock()
	e := x.entries[d]
	if e != nil {
		delete(x.entries, d)
		x.delist(e)
	}
	return e
}

// victim takes out the blob that is to be evicted next, nil where there is
// none. Its bytes count until freed.
func (x *index) victim() *entry {
	x.mu.Lock()
	defer x.mu.Unlock()
	at := x.large.Back()
	if small := x.small.Back(); small != nil &&
		(at == nil || x.light > x.used/smallShare && lastUse(small) < lastUse(at)) {
		at = small
	}
	if at == nil {
		return nil
	}
	e := at.Value.(*entry) //nolint:errcheck,forcetypeassert // the lists hold nothing else
	delete(x.entries, e.digest)
	x.delist(e)
	return e
}

func lastUse(at *list.Element) int64 { return at.Value.(*entry).used } //nolint:errcheck,forcetypeassert // the lists hold nothing else

// freed notes that the file of a blob that was taken out is gone.
func (x *index) freed(e *entry) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.used -= e.size
}

// restore puts back a blob whose file could not be removed, as one used now: it
// shall not be the next victim again.
func (x *index) restore(e *entry, now time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	e.used = now.Unix()
	x.entries[e.digest] = e
	x.enlist(e)
}

func (x *index) pin(d godigest.Digest) {
	x.mu.Lock()
	defer x.mu.Unlock()
	e := x.entries[d]
	if e != nil {
		x.delist(e)
	}
	x.pins[d]++
	if e != nil {
		x.enlist(e)
	}
}

func (x *index) unpin(d godigest.Digest, now time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	e := x.entries[d]
	if e != nil {
		x.delist(e)
		e.used = now.Unix()
	}
	if x.pins[d]--; x.pins[d] == 0 {
		delete(x.pins, d)
	}
	if e != nil {
		x.enlist(e)
	}
}

// claim adds n to the reservations if they and what cannot be evicted stay
// within limit.
func (x *index) claim(n, limit int64) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if n > limit-x.reserved-x.pinned {
		return false
	}
	x.reserved += n
	x.unwritten += n
	return true
}

// release ends a reservation of which written bytes were written.
func (x *index) release(reserved, written int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.reserved -= reserved
	x.unwritten -= reserved - written
}

// wrote notes that n reserved bytes are on the disk.
func (x *index) wrote(n int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.unwritten -= n
}

// total is what is compared with the bound and the watermarks.
func (x *index) total() int64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.used + x.reserved
}

// pending is what downloads will still write.
func (x *index) pending() int64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.unwritten
}

// evictable is what eviction can free.
func (x *index) evictable() int64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.used - x.pinned
}
