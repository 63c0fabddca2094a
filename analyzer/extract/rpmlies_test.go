package extract

import (
	"bytes"
	"database/sql"
	"encoding/binary"
	"runtime"
	"strings"
	"testing"
)

// rpmHeader is a header with the given texts, in the order of the tags.
func rpmHeader(name, version, release string) []byte {
	var index, data []byte
	for i, text := range []string{name, version, release} {
		for _, n := range []uint32{uint32(tagName + i), typeString, uint32(len(data)), 1} {
			index = binary.BigEndian.AppendUint32(index, n)
		}
		data = append(append(data, text...), 0)
	}
	out := binary.BigEndian.AppendUint32(nil, 3)
	out = binary.BigEndian.AppendUint32(out, uint32(len(data)))
	return append(append(out, index...), data...)
}

// ndbOf is an ndb database of one page of slots, whose n packages are all the
// one blob; its header claims pages pages of slots, the blob size bytes.
func ndbOf(blob []byte, n int, pages, size uint32) []byte {
	le := binary.LittleEndian
	b := make([]byte, 4096)
	copy(b, "RpmP")
	le.PutUint32(b[12:], pages)
	for at := 32; at < len(b); at += 16 {
		copy(b[at:], "Slot")
		if i := at/16 - 2; i < n {
			le.PutUint32(b[at+4:], 1)
			le.PutUint32(b[at+8:], 4096/16)
			le.PutUint32(b[at+12:], 1)
		}
	}
	head := make([]byte, 16)
	copy(head, "BlbS")
	le.PutUint32(head[4:], 1)
	le.PutUint32(head[12:], size)
	return append(append(b, head...), blob...)
}

// bdbOf is a BerkeleyDB hash database of hash pages with as many packages as
// fit, whose values are all on the chain of overflow pages that blob is on. It
// claims last to be its last page, and size to be each value's size.
func bdbOf(blob []byte, hashPages int, last, size uint32, loop bool) []byte {
	const page = 64 << 10
	le := binary.LittleEndian
	b := make([]byte, page*(1+hashPages))
	le.PutUint32(b[12:], bdbMagic)
	le.PutUint32(b[20:], page)
	for h := range hashPages {
		p := b[page*(1+h):][:page]
		p[25] = bdbHash
		items, end := 0, page
		put := func(item []byte) {
			end -= len(item)
			copy(p[end:], item)
			le.PutUint16(p[bdbPageHeader+2*items:], uint16(end))
			items++
		}
		for n := 1; end-(bdbPageHeader+2*items) > 30; n++ {
			put(le.AppendUint32([]byte{bdbKeyData}, uint32(h<<16+n)))
			put(le.AppendUint32(le.AppendUint32([]byte{bdbOffPage, 0, 0, 0}, uint32(1+hashPages)), size))
		}
		le.PutUint16(p[20:], uint16(items))
	}
	for len(blob) > 0 {
		p := make([]byte, page)
		n := copy(p[bdbPageHeader:], blob)
		blob = blob[n:]
		p[25] = bdbOverflow
		le.PutUint16(p[22:], uint16(n))
		if next := uint32(len(b)/page) + 1; len(blob) > 0 {
			le.PutUint32(p[16:], next)
		} else if loop {
			le.PutUint32(p[16:], next-1)
		}
		b = append(b, p...)
	}
	if last == 0 {
		last = uint32(len(b)/page) - 1
	}
	le.PutUint32(b[32:], last)
	return b
}

// sqliteOf is an SQLite database with n packages, changed by change.
func sqliteOf(t *testing.T, n int, blob []byte, change func([]byte)) []byte {
	t.Helper()
	b := sqliteFile(t, func(db *sql.DB) error {
		_, err := db.ExecContext(t.Context(), "CREATE TABLE Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)")
		for range n {
			if err != nil {
				break
			}
			_, err = db.ExecContext(t.Context(), "INSERT INTO Packages (blob) VALUES (?)", blob)
		}
		return err
	})
	change(b)
	return b
}

// TestRPMLies has databases whose numbers are not true: what is missing is told,
// and neither memory nor time depends on what a number claims.
func TestRPMLies(t *testing.T) {
	tool := rpmHeader("tool", "1", "2")
	full := uint32(len(tool))
	long := rpmHeader(strings.Repeat("n", maxText), strings.Repeat("1", maxText), strings.Repeat("2", maxText))
	be := binary.BigEndian
	for _, tt := range []struct {
		name, path string
		db         []byte
		want       string // "" = none
	}{
		{"ndb, true", "Packages.db", ndbOf(tool, 1, 1, full), ""},
		{"ndb, a blob larger than the file", "Packages.db", ndbOf(tool, 1, 1, 1<<31), "bad blob of package 1"},
		{"ndb, a blob shorter than its header says", "Packages.db", ndbOf(tool, 1, 1, full-8), "header: 3 entries"},
		{"ndb, more slots than the file has", "Packages.db", ndbOf(tool, 1, 2048, full), "slots: EOF"},
		{"ndb, pages without end", "Packages.db", ndbOf(tool, 1, 1<<31, full), "slot pages"},
		{"BerkeleyDB, true", "Packages", bdbOf(tool, 1, 0, full, false), ""},
		{"BerkeleyDB, a value larger than the file", "Packages", bdbOf(tool, 1, 0, 1<<31, false), "a value of 2147483648 bytes"},
		{"BerkeleyDB, a value that goes on", "Packages", bdbOf(tool, 1, 0, full+1, false), "overflow page 0"},
		{"BerkeleyDB, a chain in a loop", "Packages", bdbOf(tool, 1, 0, 1<<17, true), "a value of 131072 bytes in"},
		{"BerkeleyDB, more pages than the file has", "Packages", bdbOf(tool, 1, 1<<20, full, false), "cut: 1048577 pages"},
		{"BerkeleyDB, many packages of the same pages", "Packages", bdbOf(long, 3, 0, uint32(len(long)), false), "more than 67108864 bytes of names"},
		{"SQLite, true", "rpmdb.sqlite", sqliteOf(t, 3, tool, func([]byte) {}), ""},
		{"SQLite, more pages than the file has", "rpmdb.sqlite", sqliteOf(t, 3, tool, func(b []byte) { be.PutUint32(b[28:], 1<<30) }), "rpm database: "},
		{"SQLite, more rows than the page has", "rpmdb.sqlite", sqliteOf(t, 3, tool, func(b []byte) { be.PutUint16(lastPage(b)[3:], 4000) }), "rpm database: "},
		{"SQLite, a row larger than the file", "rpmdb.sqlite", sqliteOf(t, 3, tool, func(b []byte) {
			p := lastPage(b)
			copy(p[be.Uint16(p[8:]):], []byte{0xff, 0xff, 0xff, 0x7f})
		}), "rpm database: "},
		{"SQLite, a value larger than its row", "rpmdb.sqlite", sqliteOf(t, 3, tool, func(b []byte) {
			i := bytes.Index(b, tool)
			copy(b[i-2:], []byte{0xff, 0x7e})
		}), "rpm database: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			res, _ := read(t, newExtractor(t, Options{}), "var/lib/rpm/"+tt.path, tt.db)
			runtime.ReadMemStats(&after)
			if grown := int64(after.Sys) - int64(before.Sys); grown > 256<<20 {
				t.Errorf("%d MiB were taken from the system", grown>>20)
			}
			said := ""
			for _, p := range res.Problems {
				said += p.Reason
			}
			if tt.want == "" && (said != "" || len(res.Packages) == 0 || res.Packages[0].Version != "1-2") || !strings.Contains(said, tt.want) {
				t.Errorf("%d packages, problems %.300q, want %q", len(res.Packages), said, tt.want)
			}
		})
	}
}

// lastPage is the last page of an SQLite database, which is the table's leaf.
func lastPage(b []byte) []byte {
	size := int(binary.BigEndian.Uint16(b[16:]))
	for at := len(b) - size; at > 0; at -= size {
		if p := b[at:]; p[0] == 0x0d && binary.BigEndian.Uint16(p[3:]) == 3 {
			return p
		}
	}
	return b[len(b)-size:]
}

// FuzzRPMDatabase feeds the own readers of ndb and BerkeleyDB: they end, and what
// they hand on has the size that its database has at most.
func FuzzRPMDatabase(f *testing.F) {
	tool := rpmHeader("tool", "1", "2")
	full := uint32(len(tool))
	f.Add(ndbOf(tool, 1, 1, full))
	f.Add(ndbOf(tool, 9, 2, 1<<31))
	f.Add(bdbOf(tool, 1, 0, full, false))
	f.Add(bdbOf(tool, 1, 0, 1<<17, true))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := Content{bytes.NewReader(b), int64(len(b))}
		each := func(blob []byte) error {
			if len(blob) > len(b) {
				t.Errorf("%d bytes out of %d", len(blob), len(b))
			}
			if h, err := parseHeader(blob); err == nil {
				_ = h.eachFile(func(string) {}) // it may fail, it must not panic
			}
			return nil
		}
		_ = readNDB(t.Context(), c, each)
		_ = readBDB(t.Context(), c, binary.LittleEndian, each)
		_ = readBDB(t.Context(), c, binary.BigEndian, each)
	})
}
