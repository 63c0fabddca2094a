package records

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"
	"go.uber.org/zap"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// The errors that callers branch on.
var (
	ErrNotFound = errors.New("not found")
	// ErrInvalid marks an argument that the caller's client has to correct: a
	// page token, a blocklist entry, a waiver. The text after it says what is wrong.
	ErrInvalid = errors.New("invalid")
)

const (
	readers     = 8                // connections for reading
	busyTimeout = 10 * time.Second // wait for another process's write
	maxBody     = 256 << 20        // bytes of a decompressed body
)

// DB is the database. Its methods can be called by many goroutines at once.
type DB struct {
	path string
	log  *zap.Logger
	now  func() time.Time

	read    *sql.DB
	durable *sql.DB // one connection; a commit is on disk when it returns
	quick   *sql.DB // one connection; a commit survives the process, not the machine
	writing chan struct{}

	encoder *zstd.Encoder
	decoder *zstd.Decoder

	decisions atomic.Pointer[decisions]
	revision  atomic.Uint64 // of the newest decisions
	stop      context.CancelFunc
	watcher   sync.WaitGroup
}

// Open opens the database at path, making it if there is none, and brings its
// tables up to date. Close it after use.
func Open(ctx context.Context, path string, log *zap.Logger) (*DB, error) {
	db, err := open(ctx, path, log)
	if err != nil {
		return nil, fmt.Errorf("open records %s: %w", path, explain(err))
	}
	return db, nil
}

func open(ctx context.Context, path string, log *zap.Logger) (_ *DB, err error) {
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	// SQLite would give a new file the umask's permissions.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	db := &DB{path: path, log: log.Named("records"), now: time.Now, writing: make(chan struct{}, 1)}
	defer func() {
		if err != nil {
			err = errors.Join(err, db.Close())
		}
	}()
	if db.encoder, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1)); err != nil {
		return nil, err
	}
	if db.decoder, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxBody)); err != nil {
		return nil, err
	}
	if db.durable, err = connect(path, "FULL", 1); err != nil {
		return nil, err
	}
	if err = reach(ctx, db.durable); err != nil {
		return nil, err
	}
	if err = migrate(ctx, db.durable); err != nil {
		return nil, err
	}
	if db.quick, err = connect(path, "NORMAL", 1); err != nil {
		return nil, err
	}
	if db.read, err = connect(path, "NORMAL", readers); err != nil {
		return nil, err
	}
	if err = check(ctx, db.read); err != nil {
		return nil, err
	}
	if _, err = db.loadDecisions(ctx); err != nil {
		return nil, err
	}
	if err = db.watch(ctx); err != nil {
		return nil, err
	}
	return db, nil
}

// connect prepares a pool of at most n connections.
func connect(path, synchronous string, n int) (*sql.DB, error) {
	q := url.Values{
		"_busy_timeout": {fmt.Sprint(busyTimeout.Milliseconds())},
		"_foreign_keys": {"on"},
		"_journal_mode": {"WAL"},
		"_synchronous":  {synchronous},
		"_defensive":    {"true"},
		"_dqs":          {"false"},
	}
	if n > 1 {
		q.Set("_query_only", "on")
	} else {
		q.Set("_txlock", "immediate")
	}
	c, err := sqlite.NewConnector((&url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}).String())
	if err != nil {
		return nil, err
	}
	pool := sql.OpenDB(c)
	pool.SetMaxOpenConns(n)
	pool.SetMaxIdleConns(n)
	return pool, nil
}

// reach makes the pool's first connection. Where several processes open a new
// file at once, only one can turn it to WAL; SQLite lets the others fail rather
// than wait (https://www.sqlite.org/wal.html, "Sometimes Queries Return
// SQLITE_BUSY In WAL Mode"), so they try again.
func reach(ctx context.Context, pool *sql.DB) error {
	ctx, cancel := context.WithTimeout(ctx, busyTimeout)
	defer cancel()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		err := pool.PingContext(ctx)
		var s *sqlite.Error
		if !errors.As(err, &s) || s.Code()&0xff != sqlite3.SQLITE_BUSY {
			return err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return err
		}
	}
}

// check looks at the tables whose damage must not go unnoticed. They are small;
// a damaged analysis shows when it is decoded.
func check(ctx context.Context, read *sql.DB) error {
	for _, table := range []string{"blocks", "waivers", "audit", "counters"} {
		var found string
		if err := read.QueryRowContext(ctx, "PRAGMA quick_check('"+table+"')").Scan(&found); err != nil {
			return fmt.Errorf("check %s: %w", table, err)
		}
		if found != "ok" {
			return fmt.Errorf("check %s: %w: %s", table, errDamaged, found)
		}
	}
	return nil
}

var errDamaged = errors.New("the database is damaged")

// explain adds to an error of SQLite's what the operator can do about it.
func explain(err error) error {
	var s *sqlite.Error
	damaged := errors.Is(err, errDamaged)
	if errors.As(err, &s) {
		code := s.Code() & 0xff // without the extension
		damaged = damaged || code == sqlite3.SQLITE_CORRUPT || code == sqlite3.SQLITE_NOTADB
	}
	if damaged {
		return fmt.Errorf("the file is damaged or not a database; restore it from a backup, or move it away to start with empty records (blocklist, waivers and audit trail are in it): %w", err)
	}
	return err
}

// Ping proves that the database answers.
func (db *DB) Ping(ctx context.Context) error {
	if err := db.read.PingContext(ctx); err != nil {
		return fmt.Errorf("records %s: %w", db.path, err)
	}
	return nil
}

// Close waits for the background work and closes the connections.
func (db *DB) Close() error {
	if db.stop != nil {
		db.stop()
		db.watcher.Wait()
	}
	var errs []error
	for _, pool := range []*sql.DB{db.read, db.quick, db.durable} {
		if pool != nil {
			errs = append(errs, pool.Close())
		}
	}
	if db.encoder != nil {
		errs = append(errs, db.encoder.Close())
	}
	if db.decoder != nil {
		db.decoder.Close()
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close records %s: %w", db.path, err)
	}
	return nil
}

// update runs change in one transaction on pool, alone among this process's.
func (db *DB) update(ctx context.Context, pool *sql.DB, change func(*sql.Tx) error) error {
	select {
	case db.writing <- struct{}{}:
		defer func() { <-db.writing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	tx, err := pool.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := change(tx); err != nil {
		return errors.Join(err, ignoreDone(tx.Rollback()))
	}
	return tx.Commit()
}

// ignoreDone drops the error of a rollback that the context did before.
func ignoreDone(err error) error {
	if errors.Is(err, sql.ErrTxDone) {
		return nil
	}
	return err
}

// query calls scan for each row.
func query(ctx context.Context, q querier, scan func(*sql.Rows) error, text string, args ...any) error {
	rows, err := q.QueryContext(ctx, text, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// querier is a pool or a transaction.
type querier interface {
	QueryContext(ctx context.Context, text string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, text string, args ...any) *sql.Row
}

// nanos is how a time is stored. One past the year 2262 becomes the last that
// fits: an entry that expires then must not wrap round and expire at once.
func nanos(t time.Time) int64 {
	switch last := time.Unix(0, math.MaxInt64); {
	case t.IsZero():
		return 0
	case t.After(last):
		return math.MaxInt64
	case t.Before(time.Unix(0, 1)):
		return 1
	}
	return t.UnixNano()
}

// fromNanos is the reverse of nanos, in UTC.
func fromNanos(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

// placeholders are n question marks for a list.
func placeholders(n int) string { return strings.TrimSuffix(strings.Repeat("?, ", n), ", ") }
