package records

import (
	"context"
	"database/sql"
	"errors"

	"github.com/sluiceproxy/sluice/proxy/policy"
)

// decisions are those of operators that are in force, at a revision.
type decisions struct {
	revision uint64
	blocks   []policy.Block
	waivers  []policy.Waiver
}

// decide runs change durably and counts the revision of the decisions up.
func (db *DB) decide(ctx context.Context, change func(*sql.Tx) error) error {
	var revision uint64
	err := db.update(ctx, db.durable, func(tx *sql.Tx) error {
		if err := change(tx); err != nil {
			return err
		}
		return tx.QueryRowContext(ctx, "UPDATE counters SET value = value + 1 WHERE name = 'decisions' RETURNING value").Scan(&revision)
	})
	if err != nil {
		return err
	}
	db.raise(revision)
	return nil
}

// raise sets the known revision of the decisions, which only grows.
func (db *DB) raise(revision uint64) {
	for {
		old := db.revision.Load()
		if revision <= old || db.revision.CompareAndSwap(old, revision) {
			return
		}
	}
}

// DecisionsRevision names the state of the blocklist and of the waivers: it
// grows with each change, at once for one of this process, within half a second
// for one of another.
func (db *DB) DecisionsRevision() uint64 { return db.revision.Load() }

// currentDecisions returns the decisions, from memory if nothing has changed.
func (db *DB) currentDecisions(ctx context.Context) (*decisions, error) {
	if d := db.decisions.Load(); d != nil && d.revision == db.revision.Load() {
		return d, nil
	}
	return db.loadDecisions(ctx)
}

// loadDecisions reads the decisions and their revision as of one moment.
func (db *DB) loadDecisions(ctx context.Context) (*decisions, error) {
	tx, err := db.read.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	d, err := readDecisions(ctx, tx)
	if err = errors.Join(err, ignoreDone(tx.Rollback())); err != nil {
		return nil, err
	}
	db.raise(d.revision)
	for { // an older state never replaces a newer one
		old := db.decisions.Load()
		if old != nil && old.revision >= d.revision || db.decisions.CompareAndSwap(old, d) {
			return d, nil
		}
	}
}

func readDecisions(ctx context.Context, tx *sql.Tx) (*decisions, error) {
	var d decisions
	var err error
	if d.revision, err = readRevision(ctx, tx); err != nil {
		return nil, err
	}
	if d.blocks, err = readBlocks(ctx, tx, ""); err != nil {
		return nil, err
	}
	d.waivers, err = readWaivers(ctx, tx, "")
	return &d, err
}

func readRevision(ctx context.Context, q querier) (revision uint64, err error) {
	err = q.QueryRowContext(ctx, "SELECT value FROM counters WHERE name = 'decisions'").Scan(&revision)
	return revision, err
}
