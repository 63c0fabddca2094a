package records

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/sluiceproxy/sluice/proxy/policy"
)

// The actions of the audit trail.
const (
	ActionBlockAdd     = "blocklist.add"
	ActionBlockRemove  = "blocklist.remove"
	ActionWaiverAdd    = "waiver.add"
	ActionWaiverRemove = "waiver.remove"
	ActionRematch      = "verdict.rematch" // new advisories changed a decision; by the program itself
	ActionPromote      = "registry.promote"
	ActionCollect      = "registry.gc"
	ActionRetain       = "registry.retain" // an image that the retention rules let go; by the program itself
)

// AuditEntry is one decision of an operator, or a change by the program itself.
type AuditEntry struct {
	Seq    int64           `json:"seq"` // counts up
	At     time.Time       `json:"at"`
	By     string          `json:"by"`
	Action string          `json:"action"`
	Target string          `json:"target"`           // id of what was changed
	Before json.RawMessage `json:"before,omitempty"` // none for what is new
	After  json.RawMessage `json:"after,omitempty"`  // none for what is gone
}

// audit appends an entry to the trail within the transaction of its change.
func (db *DB) audit(ctx context.Context, tx *sql.Tx, e AuditEntry, before, after any) error {
	var states [2]string
	for i, v := range []any{before, after} {
		if v == nil {
			continue
		}
		b, err := json.Marshal(v)
		if err != nil {
			return err
		}
		states[i] = string(b)
	}
	_, err := tx.ExecContext(ctx, "INSERT INTO audit (at, actor, action, target, before, after) VALUES (?, ?, ?, ?, ?, ?)",
		nanos(db.now()), e.By, e.Action, e.Target, states[0], states[1])
	return err
}

// Note appends an entry to the audit trail on something that changed no
// operator's decision. after is encoded as JSON; nil = none.
func (db *DB) Note(ctx context.Context, by, action, target string, after any) error {
	err := db.update(ctx, db.durable, func(tx *sql.Tx) error {
		return db.audit(ctx, tx, AuditEntry{By: by, Action: action, Target: target}, nil, after)
	})
	if err != nil {
		return fmt.Errorf("audit %s of %s: %w", action, target, err)
	}
	return nil
}

// AuditRematch notes that new advisories changed the decision on an image.
func (db *DB) AuditRematch(ctx context.Context, before, after *policy.Verdict) error {
	// The reasons of a verdict stand in its history, under its id.
	type change struct {
		Verdict    string          `json:"verdict"`
		Decision   policy.Decision `json:"decision"`
		Advisories string          `json:"advisories"`
		Summary    string          `json:"summary"`
	}
	of := func(v *policy.Verdict) change { return change{v.ID, v.Decision, v.Advisories, v.Summary()} }
	target := after.Image + "@" + after.Digest.String()
	err := db.update(ctx, db.durable, func(tx *sql.Tx) error {
		return db.audit(ctx, tx, AuditEntry{By: "sluice", Action: ActionRematch, Target: target}, of(before), of(after))
	})
	if err != nil {
		return fmt.Errorf("audit %s: %w", target, err)
	}
	return nil
}

// AuditFilter selects entries of the audit trail. A zero field selects all.
type AuditFilter struct {
	Since     time.Time
	By        string
	Action    string
	Target    string
	Limit     int    // at most 500; 0 = 100
	PageToken string // what the page before returned
}

// Audit returns a page of the audit trail, the newest entry first, and the
// token of the next page, "" after the last. A bad filter is ErrInvalid.
func (db *DB) Audit(ctx context.Context, f AuditFilter) (items []AuditEntry, next string, err error) {
	after, err := parsePageToken("audit", f.PageToken)
	if err != nil {
		return nil, "", fmt.Errorf("audit: %w", err)
	}
	if after == 0 {
		after = math.MaxInt64
	}
	limit := pageLimit(f.Limit)
	err = query(ctx, db.read, func(rows *sql.Rows) error {
		if len(items) == limit { // there is one more
			next = pageToken("audit", items[limit-1].Seq)
			return errEnough
		}
		var (
			e             AuditEntry
			at            int64
			before, later string
		)
		if err := rows.Scan(&e.Seq, &at, &e.By, &e.Action, &e.Target, &before, &later); err != nil {
			return err
		}
		e.At, e.Before, e.After = fromNanos(at), raw(before), raw(later)
		items = append(items, e)
		return nil
	}, `SELECT seq, at, actor, action, target, before, after FROM audit
		WHERE seq < ? AND at >= ? AND (? = '' OR actor = ?) AND (? = '' OR action = ?) AND (? = '' OR target = ?)
		ORDER BY seq DESC LIMIT ?`,
		after, nanos(f.Since), f.By, f.By, f.Action, f.Action, f.Target, f.Target, limit+1)
	if err != nil && !errors.Is(err, errEnough) {
		return nil, "", fmt.Errorf("audit: %w", err)
	}
	return items, next, nil
}

func raw(s string) json.RawMessage {
	if s == "" {
		return nil
	}
	return json.RawMessage(s)
}
