package extract

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"time"

	_ "modernc.org/sqlite" // the driver of rpmdb.sqlite
)

// rpmTimeout bounds the reading of one database. A whole distribution takes
// less than a second; a hostile file can make a query, or chains of pages that
// many packages share, last for days.
const rpmTimeout = time.Minute

// readRPM calls f with every package header of the database in file, which is
// recognised by its magic bytes.
func readRPM(ctx context.Context, file string, f func(blob []byte) error) error {
	ctx, cancel := context.WithTimeout(ctx, rpmTimeout)
	defer cancel()
	fd, err := os.Open(file)
	if err != nil {
		return err
	}
	defer fd.Close()
	fi, err := fd.Stat()
	if err != nil {
		return err
	}
	c := Content{fd, fi.Size()}
	head := make([]byte, 16)
	if n, err := fd.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	} else if n < len(head) {
		return fmt.Errorf("only %d bytes", n)
	}
	switch {
	case bytes.HasPrefix(head, []byte("SQLite format 3\x00")):
		return readSQLite(ctx, file, f)
	case bytes.HasPrefix(head, []byte("RpmP")):
		return readNDB(ctx, c, f)
	case binary.LittleEndian.Uint32(head[12:]) == bdbMagic:
		return readBDB(ctx, c, binary.LittleEndian, f)
	case binary.BigEndian.Uint32(head[12:]) == bdbMagic:
		return readBDB(ctx, c, binary.BigEndian, f)
	}
	return errors.New("unknown format")
}

// readSQLite reads the table Packages(hnum, blob) (rpm, lib/backend/sqlite.c).
func readSQLite(ctx context.Context, file string, f func([]byte) error) (err error) {
	dsn := url.URL{Scheme: "file", Path: file, RawQuery: "_pragma=trusted_schema(0)&_pragma=cell_size_check(1)"}
	db, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var kind, check string
	if err := db.QueryRowContext(ctx, "SELECT type FROM sqlite_schema WHERE name = 'Packages'").Scan(&kind); err != nil {
		return err
	}
	if kind != "table" {
		return fmt.Errorf("packages is a %s", kind)
	}
	if err := db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&check); err != nil {
		return err
	}
	if check != "ok" {
		return errors.New(check)
	}
	rows, err := db.QueryContext(ctx, "SELECT blob FROM Packages")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var blob sql.RawBytes
		if err := rows.Scan(&blob); err != nil {
			return err
		}
		if err := f(blob); err != nil {
			return err
		}
	}
	return rows.Err()
}

// readNDB reads rpm's own format: a header of 32 bytes, pages of slots of 16
// bytes that say where a package's blob is, and blobs (rpm,
// lib/backend/ndb/rpmpkg.c). All numbers are little-endian.
func readNDB(ctx context.Context, c Content, f func([]byte) error) error {
	head := make([]byte, 32)
	if _, err := c.ReadAt(head, 0); err != nil {
		return fmt.Errorf("header: %w", err)
	}
	le := binary.LittleEndian
	pages := le.Uint32(head[12:])
	if v := le.Uint32(head[4:]); v != 0 || pages == 0 || pages > 2048 {
		return fmt.Errorf("version %d with %d slot pages", v, pages)
	}
	slots := make([]byte, int(pages)*4096-len(head)) // the header takes the place of two slots
	if _, err := c.ReadAt(slots, int64(len(head))); err != nil {
		return fmt.Errorf("slots: %w", err)
	}
	for ; len(slots) > 0; slots = slots[16:] {
		if string(slots[:4]) != "Slot" {
			return errors.New("bad slot")
		}
		id := le.Uint32(slots[4:])
		if id == 0 {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		off := int64(le.Uint32(slots[8:])) * 16
		if _, err := c.ReadAt(head[:16], off); err != nil {
			return fmt.Errorf("blob of package %d: %w", id, err)
		}
		size := int64(le.Uint32(head[12:]))
		if string(head[:4]) != "BlbS" || le.Uint32(head[4:]) != id || size > min(maxHeader, c.Size-off) {
			return fmt.Errorf("bad blob of package %d", id)
		}
		blob := make([]byte, size)
		if _, err := c.ReadAt(blob, off+16); err != nil {
			return fmt.Errorf("blob of package %d: %w", id, err)
		}
		if err := f(blob); err != nil {
			return err
		}
	}
	return nil
}

// BerkeleyDB's hash format (db_page.h): the magic number and the page types and
// item types that a hash database has.
const (
	bdbMagic        = 0x061561
	bdbHashUnsorted = 2
	bdbOverflow     = 7
	bdbHash         = 13
	bdbKeyData      = 1
	bdbOffPage      = 3
	bdbPageHeader   = 26
)

type bdb struct {
	c        Content
	order    binary.ByteOrder
	pageSize int64
	last     uint32
}

// readBDB reads a hash database whose keys are package numbers and whose values
// are headers, most of them on chains of overflow pages.
func readBDB(ctx context.Context, c Content, order binary.ByteOrder, f func([]byte) error) error {
	meta := make([]byte, 72)
	if _, err := c.ReadAt(meta, 0); err != nil {
		return fmt.Errorf("metadata: %w", err)
	}
	db := &bdb{c: c, order: order, pageSize: int64(order.Uint32(meta[20:])), last: order.Uint32(meta[32:])}
	if db.pageSize < 512 || db.pageSize > 64<<10 || db.pageSize&(db.pageSize-1) != 0 {
		return fmt.Errorf("pages of %d bytes", db.pageSize)
	}
	if meta[24] != 0 {
		return errors.New("encrypted")
	}
	if (int64(db.last)+1)*db.pageSize > c.Size {
		return fmt.Errorf("cut: %d pages of %d bytes in %d bytes", int64(db.last)+1, db.pageSize, c.Size)
	}
	page := make([]byte, db.pageSize)
	for n := uint32(1); n <= db.last; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := c.ReadAt(page, int64(n)*db.pageSize); err != nil {
			return fmt.Errorf("page %d: %w", n, err)
		}
		if t := page[25]; t != bdbHash && t != bdbHashUnsorted {
			continue
		}
		if err := db.items(ctx, page, f); err != nil {
			return fmt.Errorf("page %d: %w", n, err)
		}
	}
	return nil
}

// items calls f with the values of a hash page. Its index alternates between
// keys and values; the items lie from the page's end downwards.
func (db *bdb) items(ctx context.Context, page []byte, f func([]byte) error) error {
	count := int(db.order.Uint16(page[20:]))
	if bdbPageHeader+2*count > len(page) || count%2 != 0 {
		return fmt.Errorf("%d items", count)
	}
	item := func(i int) ([]byte, error) {
		end := len(page)
		if i > 0 {
			end = int(db.order.Uint16(page[bdbPageHeader+2*(i-1):]))
		}
		start := int(db.order.Uint16(page[bdbPageHeader+2*i:]))
		if start < bdbPageHeader+2*count || start >= end || end > len(page) {
			return nil, fmt.Errorf("bad item %d", i)
		}
		return page[start:end], nil
	}
	for i := 0; i < count; i += 2 {
		if err := ctx.Err(); err != nil {
			return err
		}
		key, err := item(i)
		if err != nil {
			return err
		}
		value, err := item(i + 1)
		if err != nil {
			return err
		}
		if key[0] == bdbKeyData && bytes.Equal(key[1:], make([]byte, 4)) {
			continue // package 0 is the counter
		}
		switch value[0] {
		case bdbKeyData:
			err = f(value[1:])
		case bdbOffPage:
			if len(value) < 12 {
				return fmt.Errorf("bad item %d", i+1)
			}
			var blob []byte
			if blob, err = db.overflow(db.order.Uint32(value[4:]), int64(db.order.Uint32(value[8:]))); err == nil {
				err = f(blob)
			}
		default:
			err = fmt.Errorf("item of type %d", value[0])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// overflow collects a value of size bytes from a chain of pages.
func (db *bdb) overflow(n uint32, size int64) ([]byte, error) {
	if size > min(maxHeader, db.c.Size) {
		return nil, fmt.Errorf("a value of %d bytes", size)
	}
	out := make([]byte, 0, size)
	page := make([]byte, db.pageSize)
	for int64(len(out)) < size {
		if n == 0 || n > db.last {
			return nil, fmt.Errorf("overflow page %d", n)
		}
		if _, err := db.c.ReadAt(page, int64(n)*db.pageSize); err != nil {
			return nil, fmt.Errorf("overflow page %d: %w", n, err)
		}
		used := int(db.order.Uint16(page[22:]))
		if page[25] != bdbOverflow || used == 0 || bdbPageHeader+used > len(page) {
			return nil, fmt.Errorf("bad overflow page %d", n)
		}
		out = append(out, page[bdbPageHeader:bdbPageHeader+used]...)
		n = db.order.Uint32(page[16:])
	}
	if int64(len(out)) != size {
		return nil, fmt.Errorf("a value of %d bytes in %d", size, len(out))
	}
	return out, nil
}
