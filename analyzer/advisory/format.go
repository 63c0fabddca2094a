package advisory

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"strings"
	"time"

	"github.com/sluiceproxy/sluice/analyzer"
)

// The index file, version 2. Numbers of fixed width are little-endian; "varint"
// is encoding/binary's Uvarint; "text" is its length as varint and its bytes.
//
//	header      magic, version, crc of the header, size of the file,
//	            and offset, length and crc of each section
//	advisories  one blob per advisory: encodeAdvisory; after them one per CVE
//	            for which only NVD has a rating, of id "NVD"
//	table       advRow per blob, by its number
//	postings    one block per key: crc, then the affected entries: encodePosting
//	keys        keyRow per key, sorted by the key's text
//	keytext     the keys' texts: ecosystem, NUL, name
//	ids         idRow per id and alias, sorted by hash
//	stats       Stats as JSON
//
// All crcs are CRC-32C. A file of another version is refused: it is compiled
// again from the feed, never converted.
const (
	magic         = "SLUICEAD"
	formatVersion = 2

	headerSize = len(magic) + 4 + 4 + 8 + sections*20
	advRowSize = 20 // offset, length, crc of the blob and the rest, lender: number+1 of the row that lends its rating, EPSS in millionths+1
	keyRowSize = 24 // offset and length of the text, offset and length of the block, hash of what is said
	idRowSize  = 12 // hash, number

	// maxFile keeps all offsets in 32 bits.
	maxFile = math.MaxUint32
)

// The sections, in the order of the file.
const (
	sectionAdvisories = iota
	sectionTable
	sectionPostings
	sectionKeys
	sectionKeyText
	sectionIDs
	sectionStats
	sections
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// ErrCorrupt is wrapped by every error about an index file that is not what
// Compile wrote: truncated or damaged.
var ErrCorrupt = errors.New("advisory index is damaged")

// ErrVersion is wrapped by errors about an index file that another version of
// the program made.
var ErrVersion = errors.New("advisory index was made by another version")

func corrupt(what string) error { return fmt.Errorf("%w: %s", ErrCorrupt, what) }

type section struct {
	off, length uint64
	crc         uint32
}

type header struct {
	size     uint64
	sections [sections]section
}

func (h *header) encode() []byte {
	b := make([]byte, 0, headerSize)
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint32(b, formatVersion)
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint64(b, h.size)
	for _, s := range h.sections {
		b = binary.LittleEndian.AppendUint64(b, s.off)
		b = binary.LittleEndian.AppendUint64(b, s.length)
		b = binary.LittleEndian.AppendUint32(b, s.crc)
	}
	binary.LittleEndian.PutUint32(b[12:], checksum(b))
	return b
}

// decodeHeader checks everything that the header says against a file of the
// given size.
func decodeHeader(b []byte, size uint64) (*header, error) {
	if len(b) < headerSize || string(b[:len(magic)]) != magic {
		return nil, corrupt("not an index file")
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != formatVersion {
		return nil, fmt.Errorf("%w (format %d, not %d): run 'sluice db update'", ErrVersion, v, formatVersion)
	}
	clean := append([]byte(nil), b[:headerSize]...)
	binary.LittleEndian.PutUint32(clean[12:], 0)
	if checksum(clean) != binary.LittleEndian.Uint32(b[12:]) {
		return nil, corrupt("header checksum")
	}
	h := &header{size: binary.LittleEndian.Uint64(b[16:])}
	if h.size != size {
		return nil, corrupt(fmt.Sprintf("file has %d bytes of %d", size, h.size))
	}
	for i := range h.sections {
		p := b[24+20*i:]
		s := section{binary.LittleEndian.Uint64(p), binary.LittleEndian.Uint64(p[8:]), binary.LittleEndian.Uint32(p[16:])}
		if s.off > size || s.length > size-s.off {
			return nil, corrupt("section outside of the file")
		}
		h.sections[i] = s
	}
	return h, nil
}

// posting is what one advisory says of one package, as stored. Its texts lie in
// the mapped file.
type posting struct {
	advisory  uint32
	ecosystem string // as written in the record
	ranges    string // encoded, one after the other: see rangeDecoder
	versions  string // each version with a NUL before and after; "" = none
	rating    rating
}

func encodePosting(b []byte, advisory uint32, a *affected) []byte {
	b = binary.AppendUvarint(b, uint64(advisory))
	b = appendText(b, a.ecosystem)
	var ranges []byte
	for _, r := range a.ranges {
		ranges = binary.AppendUvarint(ranges, uint64(len(r)))
		for _, e := range r {
			ranges = append(ranges, byte(e.kind))
			ranges = appendText(ranges, e.version)
		}
	}
	b = appendText(b, string(ranges))
	versions := ""
	if len(a.versions) > 0 {
		versions = "\x00" + strings.Join(a.versions, "\x00") + "\x00"
	}
	b = appendText(b, versions)
	return appendRating(b, a.rating)
}

// posting reads the next posting.
func (d *decoder) posting() posting {
	return posting{advisory: d.uint32(), ecosystem: d.text(), ranges: d.text(), versions: d.text(), rating: d.rating()}
}

// eventBuffer has room for the events of most ranges. Ranges are decoded into
// one on the stack when they are looked at, which costs no memory:
//
//	var buf eventBuffer
//	for d := p.rangeDecoder(); d.rest != ""; {
//		events := d.events(buf[:0])
type eventBuffer [8]event

func (p *posting) rangeDecoder() decoder { return decoder{rest: p.ranges} }

// events appends the events of the next range to buf. What cannot be read is a
// range of an unknown kind, which decides nothing.
func (d *decoder) events(buf []event) []event {
	for range d.count(2) {
		kind := eventKind(d.byte())
		buf = append(buf, event{kind, d.text()})
	}
	if d.bad {
		return append(buf[:0], event{kind: eventUnknown})
	}
	return buf
}

// storedAdvisory is an Advisory with what only matching needs.
type storedAdvisory struct {
	Advisory
	streams []string
	distro  bool // its rating is the distribution's word
}

func encodeAdvisory(b []byte, r *record) []byte {
	b = appendText(b, r.ID)
	b = appendTexts(b, r.Aliases)
	b = appendTexts(b, r.same)
	b = appendTexts(b, r.streams)
	var flags byte
	if r.KEV {
		flags |= flagKEV
	}
	if r.Class == analyzer.ClassMalware {
		flags |= flagMalware
	}
	b = append(b, flags)
	b = appendRating(b, r.rating)
	b = appendText(b, r.Summary)
	b = appendTime(b, r.Published)
	return appendTime(b, r.Modified)
}

const (
	flagKEV = 1 << iota
	flagMalware
)

// ratingDistro marks a severity that is the distribution's own word.
const ratingDistro = 0x80

func decodeAdvisory(blob string) (storedAdvisory, error) {
	d := &decoder{rest: blob}
	var a storedAdvisory
	a.ID = d.text()
	a.Aliases, a.same, a.streams = d.texts(), d.texts(), d.texts()
	flags := d.byte()
	a.KEV = flags&flagKEV != 0
	a.Class = analyzer.ClassVulnerability
	if flags&flagMalware != 0 {
		a.Class = analyzer.ClassMalware
	}
	r := d.rating()
	a.rate(r, a.ID)
	a.distro = r.distro
	a.Summary = d.text()
	a.Published, a.Modified = d.time(), d.time()
	if d.bad || len(d.rest) != 0 {
		return storedAdvisory{}, corrupt("advisory")
	}
	return a, nil
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendTexts(b []byte, s []string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	for _, v := range s {
		b = appendText(b, v)
	}
	return b
}

func appendRating(b []byte, r rating) []byte {
	s := byte(r.severity)
	if r.distro {
		s |= ratingDistro
	}
	return appendText(append(b, s, byte(math.Round(r.score*10))), r.vector)
}

func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return binary.AppendUvarint(b, 0)
	}
	return binary.AppendUvarint(b, uint64(max(t.Unix(), 0))+1)
}

// decoder reads what the append functions wrote. After anything that does not
// fit it is bad and returns zero values; it never reads outside of its bytes.
// The texts that it returns are parts of the string that it reads.
type decoder struct {
	rest string
	bad  bool
}

func (d *decoder) fail() {
	d.bad, d.rest = true, ""
}

func (d *decoder) byte() byte {
	if len(d.rest) == 0 {
		d.fail()
		return 0
	}
	b := d.rest[0]
	d.rest = d.rest[1:]
	return b
}

func (d *decoder) uvarint() uint64 {
	if len(d.rest) > 0 && d.rest[0] < 0x80 {
		v := uint64(d.rest[0])
		d.rest = d.rest[1:]
		return v
	}
	var v uint64
	for shift := 0; shift < 64; shift += 7 {
		b := d.byte()
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v
		}
	}
	d.fail()
	return 0
}

func (d *decoder) uint32() uint32 {
	v := d.uvarint()
	if v > math.MaxUint32 {
		d.fail()
		return 0
	}
	return uint32(v)
}

// count reads the number of items that follow, each of at least size bytes.
func (d *decoder) count(size int) int {
	n := d.uvarint()
	if n > uint64(len(d.rest)/size) {
		d.fail()
		return 0
	}
	return int(n)
}

func (d *decoder) text() string {
	n := d.count(1)
	s := d.rest[:n]
	d.rest = d.rest[n:]
	return s
}

func (d *decoder) texts() []string {
	n := d.count(1)
	if n == 0 {
		return nil
	}
	out := make([]string, 0, n)
	for range n {
		out = append(out, d.text())
	}
	return out
}

func (d *decoder) rating() rating {
	s, score := d.byte(), d.byte()
	severity := analyzer.Severity(s &^ ratingDistro)
	if severity > analyzer.SeverityCritical || score > 100 {
		d.fail()
		return rating{}
	}
	return rating{severity, float64(score) / 10, d.text(), s&ratingDistro != 0}
}

func (d *decoder) time() time.Time {
	v := d.uvarint()
	if v == 0 || v > 1<<40 {
		return time.Time{}
	}
	return time.Unix(int64(v-1), 0).UTC()
}

const hashSeed = 14695981039346656037

// hashBytes is FNV-1a, begun with h.
func hashBytes(h uint64, b []byte) uint64 {
	for _, c := range b {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return h
}

// hashID is FNV-1a of an id.
func hashID(id string) uint64 {
	h := uint64(hashSeed)
	for i := range len(id) {
		h = (h ^ uint64(id[i])) * 1099511628211
	}
	return h
}
