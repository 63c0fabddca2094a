package records

import (
	"context"
	"crypto/rand"
	"database/sql"
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
	err = db.decide(ctx, func(tx *sql.Tx) error {
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
	err := db.decide(ctx, func(tx *sql.Tx) error {
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

// Blocks returns the blocklist, the newest entry first, expired ones included.
// The caller may change the slice.
func (db *DB) Blocks(ctx context.Context) ([]policy.Block, error) {
	d, err := db.currentDecisions(ctx)
	if err != nil {
		return nil, fmt.Errorf("blocks: %w", err)
	}
	return slices.Clone(d.blocks), nil
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
