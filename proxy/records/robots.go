package records

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"
)

// The actions of the audit trail that concern robots.
const (
	ActionRobotAdd    = "robot.add"
	ActionRobotRemove = "robot.remove"
)

// Robot is a secret with a name. The secret itself is not kept.
type Robot struct {
	Name    string    `json:"name"`
	Hash    [32]byte  `json:"-"` // SHA-256 of the secret
	Owner   string    `json:"owner"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"`
}

// AddRobot stores r for by, with an audit entry. A name that is taken, is not a
// lower-case word, or a time that is over is ErrInvalid.
func (db *DB) AddRobot(ctx context.Context, r Robot, by string) (Robot, error) {
	r.Created, r.Owner = db.now().UTC(), oneLine(r.Owner)
	if r.Owner == "" {
		r.Owner = oneLine(by)
	}
	switch {
	case r.Name == "" || len(r.Name) > 64 || strings.Trim(r.Name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "":
		return Robot{}, fmt.Errorf("add robot: %w: the name is 1 to 64 of a-z, 0-9, dots, - and _", ErrInvalid)
	case !r.Expires.IsZero() && !r.Expires.After(r.Created):
		return Robot{}, fmt.Errorf("add robot: %w: it would have expired already, at %s", ErrInvalid, r.Expires)
	}
	err := db.update(ctx, db.durable, func(tx *sql.Tx) error {
		taken, err := exists(ctx, tx, "SELECT 1 FROM robots WHERE name = ?", r.Name)
		if err != nil {
			return err
		}
		if taken {
			return fmt.Errorf("%w: there is a robot %q already", ErrInvalid, r.Name)
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO robots (name, hash, owner, created, expires) VALUES (?, ?, ?, ?, ?)",
			r.Name, r.Hash[:], r.Owner, nanos(r.Created), nanos(r.Expires)); err != nil {
			return err
		}
		return db.audit(ctx, tx, AuditEntry{By: by, Action: ActionRobotAdd, Target: r.Name}, nil, r)
	})
	if err != nil {
		return Robot{}, fmt.Errorf("add robot: %w", err)
	}
	return r, nil
}

// RemoveRobot ends a robot for by, with an audit entry. Its tokens end with it.
func (db *DB) RemoveRobot(ctx context.Context, name, by string) error {
	err := db.update(ctx, db.durable, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, "DELETE FROM robots WHERE name = ?", name)
		if err == nil {
			err = affected(res)
		}
		if err != nil {
			return err
		}
		return db.audit(ctx, tx, AuditEntry{By: by, Action: ActionRobotRemove, Target: name}, nil, nil)
	})
	if err != nil {
		return fmt.Errorf("remove robot %s: %w", name, err)
	}
	return nil
}

// Robots returns all robots, sorted by name, expired ones too.
func (db *DB) Robots(ctx context.Context) ([]Robot, error) {
	var robots []Robot
	err := query(ctx, db.read, func(rows *sql.Rows) error {
		var (
			r                Robot
			hash             []byte
			created, expires int64
		)
		if err := rows.Scan(&r.Name, &hash, &r.Owner, &created, &expires); err != nil {
			return err
		}
		if copy(r.Hash[:], hash) != len(r.Hash) {
			return fmt.Errorf("robot %q: %w", r.Name, errDamaged)
		}
		r.Created, r.Expires = fromNanos(created), fromNanos(expires)
		robots = append(robots, r)
		return nil
	}, "SELECT name, hash, owner, created, expires FROM robots ORDER BY name")
	if err != nil {
		return nil, fmt.Errorf("robots: %w", err)
	}
	return robots, nil
}
