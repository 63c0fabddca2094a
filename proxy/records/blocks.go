package records

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sluiceproxy/sluice/proxy/policy"
)

const blockColumns = "id, digest, image, layer, package, advisory, reason, owner, created, expires"

// AddBlock puts b on the blocklist for by, with a new ID and the time of now.
// It returns what was stored once that is on disk, with its audit entry. An
// entry without exactly one well-formed target, without a reason, or that has
// expired already is ErrInvalid. Without an owner, by is it.
func (db *DB) AddBlock(ctx context.Context, b policy.Block, by string) (policy.Block, error) {
	b.ID = "b-" + strings.ToLower(rand.Text()[:10])
	b.Created = db.now().UTC()
	b.Reason, b.Owner = oneLine(b.Reason), oneLine(b.Owner)
	if b.Owner == "" {
		b.Owner = oneLine(by)
	}
	if !b.Expires.IsZero() {
		b.Expires = b.Expires.UTC()
	}
	err := b.Validate()
	if err == nil && !b.Expires.IsZero() && !b.Expires.After(b.Created) {
		err = fmt.Errorf("it would have expired already, at %s", b.Expires)
	}
	if err != nil {
		return policy.Block{}, fmt.Errorf("add block: %w entry: %w", ErrInvalid, err)
	}
	err = db.changeBlocks(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "INSERT INTO blocks ("+blockColumns+") VALUES ("+placeholders(10)+")",
			b.ID, b.Digest.String(), b.Image, b.Layer.String(), b.Package, b.Advisory, b.Reason, b.Owner, nanos(b.Created), nanos(b.Expires)); err != nil {
			return err
		}
		return db.audit(ctx, tx, AuditEntry{By: by, Action: ActionBlockAdd, Target: b.ID}, nil, b)
	})
	if err != nil {
		return policy.Block{}, fmt.Errorf("add block: %w", err)
	}
	return b, nil
}

// RemoveBlock takes an entry off the blocklist for by. It returns once that is
// on disk, with its audit entry. An entry that is not there is ErrNotFound.
func (db *DB) RemoveBlock(ctx context.Context, id, by string) error {
	err := db.changeBlocks(ctx, func(tx *sql.Tx) error {
		found, err := readBlocks(ctx, tx, "WHERE id = ?", id)
		if err != nil {
			return err
		}
		if len(found) == 0 {
			return ErrNotFound
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM blocks WHERE id = ?", id); err != nil {
			return err
		}
		return db.audit(ctx, tx, AuditEntry{By: by, Action: ActionBlockRemove, Target: id}, found[0], nil)
	})
	if err != nil {
		return fmt.Errorf("remove block %s: %w", id, err)
	}
	return nil
}

// changeBlocks runs change durably and counts the blocklist's revision up.
func (db *DB) changeBlocks(ctx context.Context, change func(*sql.Tx) error) error {
	var revision uint64
	err := db.update(ctx, db.durable, func(tx *sql.Tx) error {
		if err := change(tx); err != nil {
			return err
		}
		return tx.QueryRowContext(ctx, "UPDATE counters SET value = value + 1 WHERE name = 'blocks' RETURNING value").Scan(&revision)
	})
	if err != nil {
		return err
	}
	db.raise(revision)
	return nil
}

// raise sets the known revision of the blocklist, which only grows.
func (db *DB) raise(revision uint64) {
	for {
		old := db.blocksRevision.Load()
		if revision <= old || db.blocksRevision.CompareAndSwap(old, revision) {
			return
		}
	}
}

// BlocksRevision names the state of the blocklist: it grows with each change,
// at once for one of this process, within half a second for one of another.
func (db *DB) BlocksRevision() uint64 { return db.blocksRevision.Load() }

// Blocks returns the blocklist, the newest entry first, expired ones included.
// The caller may change the slice.
func (db *DB) Blocks(ctx context.Context) ([]policy.Block, error) {
	if l := db.blocks.Load(); l != nil && l.revision == db.blocksRevision.Load() {
		return slices.Clone(l.blocks), nil
	}
	l, err := db.loadBlocks(ctx)
	if err != nil {
		return nil, fmt.Errorf("blocks: %w", err)
	}
	return slices.Clone(l.blocks), nil
}

// loadBlocks reads the blocklist and its revision as of one moment.
func (db *DB) loadBlocks(ctx context.Context) (*blockList, error) {
	tx, err := db.read.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	l, err := readBlockList(ctx, tx)
	if err = errors.Join(err, ignoreDone(tx.Rollback())); err != nil {
		return nil, err
	}
	db.raise(l.revision)
	for { // an older list never replaces a newer one
		old := db.blocks.Load()
		if old != nil && old.revision >= l.revision || db.blocks.CompareAndSwap(old, l) {
			return l, nil
		}
	}
}

func readBlockList(ctx context.Context, tx *sql.Tx) (*blockList, error) {
	revision, err := readRevision(ctx, tx)
	if err != nil {
		return nil, err
	}
	blocks, err := readBlocks(ctx, tx, "")
	return &blockList{revision, blocks}, err
}

func readRevision(ctx context.Context, q querier) (revision uint64, err error) {
	err = q.QueryRowContext(ctx, "SELECT value FROM counters WHERE name = 'blocks'").Scan(&revision)
	return revision, err
}

func readBlocks(ctx context.Context, q querier, where string, args ...any) ([]policy.Block, error) {
	var blocks []policy.Block
	err := query(ctx, q, func(rows *sql.Rows) error {
		var (
			b                policy.Block
			created, expires int64
		)
		if err := rows.Scan(&b.ID, &b.Digest, &b.Image, &b.Layer, &b.Package, &b.Advisory, &b.Reason, &b.Owner, &created, &expires); err != nil {
			return err
		}
		b.Created, b.Expires = fromNanos(created), fromNanos(expires)
		blocks = append(blocks, b)
		return nil
	}, "SELECT "+blockColumns+" FROM blocks "+where+" ORDER BY created DESC, id DESC", args...)
	return blocks, err
}

// oneLine replaces line breaks and other white space by single spaces: reasons
// end in HTTP headers and clients' errors.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
