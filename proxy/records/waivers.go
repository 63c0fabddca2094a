package records

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/sluiceproxy/sluice/proxy/policy"
)

const waiverColumns = "id, advisory, package, rule, secret, path, images, owner, reason, created, expires"

// AddWaiver grants w for by, with a new ID and the time of now. It returns what
// was stored once that is on disk, with its audit entry. A waiver without a
// well-formed target, a reason or an expiry to come is ErrInvalid. Without an
// owner, by is it.
func (db *DB) AddWaiver(ctx context.Context, w policy.Waiver, by string) (policy.Waiver, error) {
	w.ID = "w-" + strings.ToLower(rand.Text()[:10])
	w.Created, w.Expires = db.now().UTC(), w.Expires.UTC()
	w.Reason, w.Owner = oneLine(w.Reason), oneLine(w.Owner)
	if w.Owner == "" {
		w.Owner = oneLine(by)
	}
	err := w.Validate()
	if err == nil && !w.Expires.After(w.Created) {
		err = fmt.Errorf("it would have expired already, at %s", w.Expires)
	}
	if err != nil {
		return policy.Waiver{}, fmt.Errorf("add waiver: %w waiver: %w", ErrInvalid, err)
	}
	images, err := json.Marshal(w.Images)
	if err != nil {
		return policy.Waiver{}, fmt.Errorf("add waiver: %w", err)
	}
	err = db.decide(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "INSERT INTO waivers ("+waiverColumns+") VALUES ("+placeholders(11)+")",
			w.ID, w.Advisory, w.Package, w.Rule, w.Secret, w.Path, string(images), w.Owner, w.Reason, nanos(w.Created), nanos(w.Expires)); err != nil {
			return err
		}
		return db.audit(ctx, tx, AuditEntry{By: by, Action: ActionWaiverAdd, Target: w.ID}, nil, w)
	})
	if err != nil {
		return policy.Waiver{}, fmt.Errorf("add waiver: %w", err)
	}
	return w, nil
}

// RemoveWaiver withdraws a waiver for by. It returns once that is on disk, with
// its audit entry. One that is not there is ErrNotFound.
func (db *DB) RemoveWaiver(ctx context.Context, id, by string) error {
	err := db.decide(ctx, func(tx *sql.Tx) error {
		found, err := readWaivers(ctx, tx, "WHERE id = ?", id)
		if err != nil {
			return err
		}
		if len(found) == 0 {
			return ErrNotFound
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM waivers WHERE id = ?", id); err != nil {
			return err
		}
		return db.audit(ctx, tx, AuditEntry{By: by, Action: ActionWaiverRemove, Target: id}, found[0], nil)
	})
	if err != nil {
		return fmt.Errorf("remove waiver %s: %w", id, err)
	}
	return nil
}

// Waivers returns the waivers that were granted by AddWaiver, the newest first,
// expired ones included. The caller may change the slice.
func (db *DB) Waivers(ctx context.Context) ([]policy.Waiver, error) {
	d, err := db.currentDecisions(ctx)
	if err != nil {
		return nil, fmt.Errorf("waivers: %w", err)
	}
	return slices.Clone(d.waivers), nil
}

func readWaivers(ctx context.Context, q querier, where string, args ...any) ([]policy.Waiver, error) {
	var waivers []policy.Waiver
	err := query(ctx, q, func(rows *sql.Rows) error {
		var (
			w                policy.Waiver
			images           string
			created, expires int64
		)
		if err := rows.Scan(&w.ID, &w.Advisory, &w.Package, &w.Rule, &w.Secret, &w.Path, &images, &w.Owner, &w.Reason, &created, &expires); err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(images), &w.Images); err != nil { // without them it would mean every image
			return fmt.Errorf("images of waiver %s: %w", w.ID, err)
		}
		w.Created, w.Expires = fromNanos(created), fromNanos(expires)
		waivers = append(waivers, w)
		return nil
	}, "SELECT "+waiverColumns+" FROM waivers "+where+" ORDER BY created DESC, id DESC", args...)
	return waivers, err
}
