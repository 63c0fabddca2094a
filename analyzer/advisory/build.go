package advisory

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"maps"
	"os"
	"slices"
	"sort"
	"time"

	"github.com/sluiceproxy/sluice/analyzer"
)

// builder writes an index: advisories to the file as they come, postings to a
// second temporary file, since they must be sorted by key. Per advisory and
// per affected entry it keeps a few words in memory, and each key's text.
type builder struct {
	out      *os.File
	w        *sectionWriter
	spill    *os.File // postings in the order of the records
	spillW   *bufio.Writer
	spillLen uint64

	kev     map[string]bool
	epss    *epss
	keys    map[string]uint32
	names   []string // of keys
	refs    []ref
	rows    []advRow
	ids     []idRow
	ecos    map[ecosystem]*EcosystemStats
	stats   Stats
	scratch []byte

	seen   map[string]bool // ids of this archive
	public bool            // this archive counts for Covered and Updated
	days   map[int64]bool  // on which records of this archive were modified, since 1970
	latest time.Time       // of this archive
	newest time.Time

	lenders map[string]lender // by CVE: the worst CVSS rating
	unrated []borrower        // and those that only NVD can rate, after lend
}

type ref struct {
	key    uint32
	off    uint32
	length uint32
}

type advRow struct {
	off, length, crc, lender, epss uint32
	sum                            uint64 // of the blob
}

type idRow struct {
	hash   uint64
	number uint32
}

type lender struct {
	number uint32
	rating rating
}

type borrower struct {
	number uint32
	cves   []string
}

func newBuilder(dir string, now time.Time) (*builder, error) {
	b := &builder{
		keys: make(map[string]uint32), ecos: make(map[ecosystem]*EcosystemStats), lenders: make(map[string]lender),
		stats: Stats{Built: now.UTC().Truncate(time.Second)},
	}
	var err error
	if b.out, err = os.CreateTemp(dir, tempPrefix+"index-*"); err != nil {
		return nil, err
	}
	if b.spill, err = os.CreateTemp(dir, tempPrefix+"postings-*"); err != nil {
		b.drop()
		return nil, err
	}
	b.spillW = bufio.NewWriterSize(b.spill, 1<<16)
	b.w = newSectionWriter(b.out)
	b.w.begin(sectionAdvisories)
	return b, nil
}

// drop removes the temporary files. After finish there is none left to remove
// but the postings.
func (b *builder) drop() {
	for _, f := range []*os.File{b.out, b.spill} {
		if f != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}
}

func (b *builder) startArchive(public bool) {
	b.seen, b.public, b.days, b.latest = make(map[string]bool), public, make(map[int64]bool), time.Time{}
}

// take adds one record's advisory with those affected entries whose ecosystem
// counts.
func (b *builder) take(data []byte, counts func(ecosystem) bool) error {
	r, err := parseRecord(data)
	if err != nil {
		return err
	}
	if !b.public {
		if err := checkPrivate(r); err != nil {
			return err
		}
	}
	if b.seen[r.ID] {
		return fmt.Errorf("%w: its id %s is also that of another record", errRecord, r.ID)
	}
	b.seen[r.ID] = true
	b.date(r.Modified)
	switch {
	case r.withdrawn:
		b.stats.Withdrawn++
		return nil
	case r.erratum:
		b.stats.Errata++
		for i := range r.affected {
			if e := parseEcosystem(r.affected[i].ecosystem); counts(e) {
				b.ecosystem(e)
			}
		}
		return nil
	}
	number := uint32(len(b.rows))
	entries := 0
	touched := make(map[ecosystem]bool)
	for i := range r.affected {
		a := &r.affected[i]
		e := parseEcosystem(a.ecosystem)
		if !counts(e) {
			continue
		}
		if err := b.addPosting(e, number, a); err != nil {
			return err
		}
		entries++
		if !touched[e] {
			touched[e] = true
			s := b.ecosystem(e)
			s.Advisories++
			if r.Modified.After(s.Updated) {
				s.Updated = r.Modified
			}
		}
	}
	if entries == 0 {
		b.stats.NoPackage++
		return nil
	}
	b.stats.CommitsOnly += r.gitOnly
	return b.addAdvisory(number, r)
}

// date takes a record's modification into account for the age of the feed. One
// that lies in the future says nothing.
func (b *builder) date(modified time.Time) {
	if !b.public || modified.IsZero() || modified.After(b.stats.Built) {
		return
	}
	if modified.After(b.newest) {
		b.newest = modified
	}
	if modified.After(b.latest) {
		b.latest = modified
	}
	b.days[modified.Unix()/secondsOfADay] = true
}

const (
	tinyArchive   = 100                 // records; the silence of a smaller archive says nothing
	unknownPause  = 30 * 24 * time.Hour // of an archive with too few days to tell
	enoughDays    = 8
	recentDays    = 32
	secondsOfADay = 24 * 60 * 60
)

// silence is the longest time for which an archive recently had no new or
// changed record: the longest gap between the last days that had one. ok is
// false for an archive that is too small to tell.
func silence(days map[int64]bool, records int) (longest time.Duration, ok bool) {
	if records < tinyArchive {
		return 0, false
	}
	all := slices.Sorted(maps.Keys(days))
	if len(all) < enoughDays {
		return unknownPause, true
	}
	all = all[max(0, len(all)-recentDays):]
	for i := range all[1:] {
		longest = max(longest, time.Duration(all[i+1]-all[i])*secondsOfADay*time.Second)
	}
	return longest, true
}

// ecosystem returns the statistics of e. Releases that a public archive names
// are covered.
func (b *builder) ecosystem(e ecosystem) *EcosystemStats {
	s := b.ecos[e]
	if s == nil {
		s = &EcosystemStats{Name: e.String()}
		b.ecos[e] = s
	}
	return s
}

// cover marks what an archive that was read covers: every release of its
// ecosystem that it named, or the ecosystem itself if it has no releases. A
// release that no record names is not covered. It returns the archive's newest
// modification.
func (b *builder) cover(archive ecosystem) time.Time {
	var asOf time.Time // zero: as new as the whole feed
	if quiet, ok := silence(b.days, len(b.seen)); ok && !b.latest.IsZero() {
		asOf = b.latest.Add(quiet)
	}
	releases := false
	for e, s := range b.ecos {
		if e.base == archive.base && (archive.release == "" || e == archive) {
			s.Covered = s.Covered || e.release != ""
			s.AsOf = asOf
			releases = releases || e.release != ""
		}
	}
	if !releases {
		s := b.ecosystem(archive)
		s.Covered, s.AsOf = true, asOf
	}
	return b.latest
}

func (b *builder) addPosting(e ecosystem, number uint32, a *affected) error {
	text := e.String() + "\x00" + normalName(e.base, a.name)
	key, ok := b.keys[text]
	if !ok {
		key = uint32(len(b.names))
		b.keys[text] = key
		b.names = append(b.names, text)
	}
	b.scratch = encodePosting(b.scratch[:0], number, a)
	if b.spillLen+uint64(len(b.scratch)) > maxFile {
		return errors.New("more affected versions than an index can hold")
	}
	b.refs = append(b.refs, ref{key, uint32(b.spillLen), uint32(len(b.scratch))})
	b.spillLen += uint64(len(b.scratch))
	_, err := b.spillW.Write(b.scratch)
	return err
}

func (b *builder) addAdvisory(number uint32, r *record) error {
	names := cves(append([]string{r.ID}, r.Aliases...))
	for _, id := range names {
		r.KEV = r.KEV || b.kev[id]
	}
	if r.KEV {
		b.stats.KEVMatched++
	}
	if r.Class == analyzer.ClassMalware {
		b.stats.Malware++
	}
	if r.Severity == analyzer.SeverityUnknown {
		if len(names) > 0 {
			b.unrated = append(b.unrated, borrower{number, names})
		}
	} else if r.Vector != "" {
		for _, id := range cves(append([]string{r.ID}, r.same...)) {
			if l, ok := b.lenders[id]; !ok || r.rating.better(l.rating) {
				b.lenders[id] = lender{number, r.rating}
			}
		}
	}
	score := b.epss.of(names)
	if score > 0 {
		b.stats.EPSSMatched++
	}
	b.ids = append(b.ids, idRow{hashID(r.ID), number})
	for _, id := range r.Aliases {
		b.ids = append(b.ids, idRow{hashID(id), number})
	}
	b.stats.Advisories++
	return b.addRow(r, score)
}

// addRow writes what is known of a record.
func (b *builder) addRow(r *record, score uint32) error {
	b.scratch = encodeAdvisory(b.scratch[:0], r)
	off := b.w.sectionLen()
	if b.w.off+uint64(len(b.scratch)) > maxFile {
		return errors.New("more advisories than an index can hold")
	}
	b.rows = append(b.rows, advRow{
		off: uint32(off), length: uint32(len(b.scratch)), crc: checksum(b.scratch), epss: score, sum: hashBytes(hashSeed, b.scratch),
	})
	return b.w.write(b.scratch)
}

// lend gives advisories without a rating the worst one of their CVEs, and
// returns the CVEs of those that are still without.
func (b *builder) lend() map[cve]rating {
	wanted := make(map[cve]rating)
	still := b.unrated[:0]
	for _, u := range b.unrated {
		var worst lender
		for _, id := range u.cves {
			if l, ok := b.lenders[id]; ok && (worst.rating.vector == "" || l.rating.score > worst.rating.score) {
				worst = l
			}
		}
		if worst.rating.vector != "" {
			b.rows[u.number].lender = worst.number + 1
			continue
		}
		still = append(still, u)
		for _, id := range u.cves {
			if c, ok := parseCVE(id); ok {
				wanted[c] = rating{}
			}
		}
	}
	b.unrated = still
	return wanted
}

// nvdName is the id of rows that only lend a rating of NVD's, and RatedBy of
// what borrows it.
const nvdName = "NVD"

// lendNVD gives the advisories that are still without a rating the worst that
// NVD has.
func (b *builder) lendNVD(ratings map[cve]rating) error {
	rows := make(map[cve]uint32)
	for _, u := range b.unrated {
		var from cve
		var worst rating
		for _, id := range u.cves {
			if c, ok := parseCVE(id); ok && ratings[c].vector != "" && (worst.vector == "" || ratings[c].score > worst.score) {
				from, worst = c, ratings[c]
			}
		}
		if worst.vector == "" {
			continue
		}
		number, ok := rows[from]
		if !ok {
			number = uint32(len(b.rows))
			rows[from] = number
			if err := b.addRow(&record{Advisory: Advisory{ID: nvdName}, rating: worst}, 0); err != nil {
				return err
			}
		}
		b.rows[u.number].lender = number + 1
		b.stats.NVDRated++
	}
	return nil
}

// sumOf names all that is said of an advisory: its own text, the rating that it
// borrows, and its probability of exploitation.
func (b *builder) sumOf(number uint32) uint64 {
	r := &b.rows[number]
	h := r.sum
	if r.lender > 0 {
		h = hashBytes(h, binary.LittleEndian.AppendUint64(nil, b.rows[r.lender-1].sum))
	}
	return hashBytes(h, binary.LittleEndian.AppendUint32(nil, r.epss))
}

// finish writes the other sections, checks the file and puts it at path.
func (b *builder) finish(ctx context.Context, source, path string) (Stats, error) {
	b.w.begin(sectionTable)
	for _, r := range b.rows {
		rest := binary.LittleEndian.AppendUint32(nil, r.lender)
		rest = binary.LittleEndian.AppendUint32(rest, r.epss)
		row := binary.LittleEndian.AppendUint32(nil, r.off)
		row = binary.LittleEndian.AppendUint32(row, r.length)
		row = binary.LittleEndian.AppendUint32(row, crc32.Update(r.crc, castagnoli, rest))
		if err := b.w.write(append(row, rest...)); err != nil {
			return Stats{}, err
		}
	}
	if err := b.writePostings(ctx); err != nil {
		return Stats{}, err
	}
	if err := b.writeIDs(); err != nil {
		return Stats{}, err
	}
	s := &b.stats
	s.Revision = b.w.revision()
	s.Source, s.Updated = source, b.newest
	if s.Updated.IsZero() {
		s.Updated = s.Built
	}
	for _, e := range b.ecos {
		if e.Covered && (e.AsOf.IsZero() || e.AsOf.After(s.Updated)) {
			e.AsOf = s.Updated
		}
	}
	s.Packages, s.Ecosystems = len(b.names), sortedEcosystems(b.ecos)
	data, err := json.Marshal(s)
	if err != nil {
		return Stats{}, err
	}
	b.w.begin(sectionStats)
	if err := b.w.write(data); err != nil {
		return Stats{}, err
	}
	if s.Size, err = b.w.close(); err != nil {
		return Stats{}, err
	}
	if err := Verify(ctx, b.out.Name()); err != nil {
		return Stats{}, err
	}
	if err := b.out.Chmod(0o644); err != nil {
		return Stats{}, err
	}
	if err := os.Rename(b.out.Name(), path); err != nil {
		return Stats{}, err
	}
	return *s, syncDir(path)
}

// writePostings writes the blocks in the order of the keys' texts, then the keys.
func (b *builder) writePostings(ctx context.Context) error {
	if err := b.spillW.Flush(); err != nil {
		return err
	}
	order := make([]uint32, len(b.names))
	for i := range order {
		order[i] = uint32(i)
	}
	sort.Slice(order, func(i, j int) bool { return b.names[order[i]] < b.names[order[j]] })
	rank := make([]uint32, len(order))
	for i, key := range order {
		rank[key] = uint32(i)
	}
	slices.SortStableFunc(b.refs, func(x, y ref) int { return cmp.Compare(rank[x.key], rank[y.key]) })

	b.w.begin(sectionPostings)
	rows := make([]byte, 0, len(order)*keyRowSize)
	refs, textOff := b.refs, uint64(0)
	var block []byte
	for _, key := range order {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		block = append(block[:0], 0, 0, 0, 0)
		var sum uint64 // does not depend on the order, nor on the numbers
		for len(refs) > 0 && refs[0].key == key {
			n := len(block)
			block = slices.Grow(block, int(refs[0].length))[:n+int(refs[0].length)]
			if _, err := b.spill.ReadAt(block[n:], int64(refs[0].off)); err != nil {
				return err
			}
			number, size := binary.Uvarint(block[n:])
			sum += hashBytes(b.sumOf(uint32(number)), block[n+size:])
			refs = refs[1:]
		}
		binary.LittleEndian.PutUint32(block, checksum(block[4:]))
		off := b.w.sectionLen()
		if off+uint64(len(block)) > maxFile {
			return errors.New("more affected versions than an index can hold")
		}
		rows = binary.LittleEndian.AppendUint32(rows, uint32(textOff))
		rows = binary.LittleEndian.AppendUint32(rows, uint32(len(b.names[key])))
		rows = binary.LittleEndian.AppendUint32(rows, uint32(off))
		rows = binary.LittleEndian.AppendUint32(rows, uint32(len(block)))
		rows = binary.LittleEndian.AppendUint64(rows, sum)
		textOff += uint64(len(b.names[key]))
		if err := b.w.write(block); err != nil {
			return err
		}
	}
	if textOff > maxFile {
		return errors.New("more package names than an index can hold")
	}
	b.w.begin(sectionKeys)
	if err := b.w.write(rows); err != nil {
		return err
	}
	b.w.begin(sectionKeyText)
	for _, key := range order {
		if err := b.w.write([]byte(b.names[key])); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) writeIDs() error {
	slices.SortFunc(b.ids, func(x, y idRow) int {
		return cmp.Or(cmp.Compare(x.hash, y.hash), cmp.Compare(x.number, y.number))
	})
	b.w.begin(sectionIDs)
	for _, r := range slices.Compact(b.ids) {
		row := binary.LittleEndian.AppendUint64(nil, r.hash)
		if err := b.w.write(binary.LittleEndian.AppendUint32(row, r.number)); err != nil {
			return err
		}
	}
	return nil
}

// sectionWriter writes sections one after the other and the header last.
type sectionWriter struct {
	f       *os.File
	w       *bufio.Writer
	header  header
	current int
	off     uint64
	crc     hash.Hash32
	all     hash.Hash // of all sections so far
	err     error
}

func newSectionWriter(f *os.File) *sectionWriter {
	s := &sectionWriter{f: f, w: bufio.NewWriterSize(f, 1<<18), current: -1, crc: crc32.New(castagnoli), all: sha256.New()}
	_, s.err = s.w.Write(make([]byte, headerSize))
	s.off = uint64(headerSize)
	return s
}

func (s *sectionWriter) begin(n int) {
	s.end()
	s.current = n
	s.header.sections[n].off = s.off
	s.crc.Reset()
}

func (s *sectionWriter) end() {
	if s.current < 0 {
		return
	}
	h := &s.header.sections[s.current]
	h.length, h.crc = s.sectionLen(), s.crc.Sum32()
}

func (s *sectionWriter) sectionLen() uint64 { return s.off - s.header.sections[s.current].off }

func (s *sectionWriter) write(b []byte) error {
	if s.err == nil {
		_, s.err = s.w.Write(b)
	}
	s.crc.Write(b)
	s.all.Write(b)
	s.off += uint64(len(b))
	return s.err
}

// revision names the content of the sections that were written so far.
func (s *sectionWriter) revision() string { return hex.EncodeToString(s.all.Sum(nil)[:8]) }

// close writes the header and syncs the file. It returns the file's size.
func (s *sectionWriter) close() (int64, error) {
	s.end()
	s.header.size = s.off
	if s.err != nil {
		return 0, s.err
	}
	if err := s.w.Flush(); err != nil {
		return 0, err
	}
	if _, err := s.f.WriteAt(s.header.encode(), 0); err != nil {
		return 0, err
	}
	return int64(s.off), s.f.Sync()
}
